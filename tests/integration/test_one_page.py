"""One outage, one page: what Alertmanager still sends when everything fires that an outage sets off."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.test_cli import free_port
from tests.integration.real_parts import eventually
from tests.integration.test_alert_arrives import running
from tests.real_parts import path_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("alertmanager")]

CONFIGURATION = Path(__file__).parents[2] / "otel" / "alertmanager.yaml"
SOURCE = {"cluster": "eu", "namespace": "mcp", "job": "seed-oauth"}


def page(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": "page", **SOURCE, **labels}


def ticket(name: str, **labels: str) -> dict[str, str]:
    return {**page(name, **labels), "severity": "ticket"}


BURNS = [
    page(f"OAuth{budget}ErrorBudgetBurn", burn_rate="14.4") for budget in ("Authorization", "Exchange", "Resource")
]
SLOW_BURNS = [
    ticket(f"OAuth{budget}ErrorBudgetBurn", burn_rate="3") for budget in ("Authorization", "Exchange", "Refresh")
]
ELSEWHERE = page("OAuthResourceFailing", job="another")


@pytest.mark.parametrize(
    ("first", "consequences"),
    [
        pytest.param(
            page("OAuthIdentityProviderUnreachable"),
            [
                page("OAuthNotReady", check="idp"), *BURNS, *SLOW_BURNS, page("OAuthResourceFailing"),
                ticket("OAuthExchangeSlow", grant_type="refresh_token"), ticket("OAuthLoginsLost"),
                ticket("OAuthLoginsNotReturning"), ticket("OAuthRefreshFailing"), ticket("OAuthRevocationFailing"),
            ],
            id="the identity provider is down",
        ),
        pytest.param(
            page("OAuthNotReady", check="idp"),
            [*BURNS, *SLOW_BURNS, page("OAuthResourceFailing"), ticket("OAuthLoginsNotReturning")],
            id="the identity provider is down where few people log in",
        ),
        pytest.param(
            page("OAuthNotReady", check="mcp_server"),
            [page("OAuthResourceFailing"), BURNS[2], ticket("OAuthTokensNeverUsed", client_family="claude")],
            id="the MCP server is down",
        ),
        pytest.param(
            page("OAuthNotReady", check="store"),
            [page("OAuthRegistrationStoreFailing"), *BURNS, *SLOW_BURNS, ticket("OAuthRevocationFailing")],
            id="the store is down",
        ),
        pytest.param(
            page("OAuthResourceFailing"),
            [BURNS[2], ticket("OAuthTokensNeverUsed", client_family="claude")],
            id="the MCP server fails",
        ),
        pytest.param(
            page("OAuthMetricsAbsent"), [ticket("OAuthTargetDown", instance="a")], id="the server is gone"
        ),
    ],
)  # fmt: skip
async def test_one_outage_is_one_page(
    first: dict[str, str], consequences: list[dict[str, str]], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [
        path_of("prometheus-alertmanager"), f"--config.file={CONFIGURATION}", f"--storage.path={tmp_path}/data",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    firing = [first, *consequences, ELSEWHERE]
    with running(command, tmp_path / "log"):
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v2") as alertmanager:

            async def is_ready() -> bool:
                try:
                    return (await alertmanager.get("/status")).is_success
                except httpx.TransportError:
                    return False

            async def sent() -> list[dict[str, Any]]:
                alerts: list[dict[str, Any]] = (await alertmanager.get("/alerts")).json()
                assert len(alerts) in {0, len(firing)}
                return [alert["labels"] for alert in alerts if alert["status"]["state"] != "suppressed"]

            async def is_settled() -> bool:
                return len(await sent()) == 2

            await eventually(is_ready)
            await alertmanager.post("/alerts", json=[{"labels": labels} for labels in firing])
            await eventually(is_settled)
            left = await sent()
    assert first in left
    assert ELSEWHERE in left  # another installation is not muted
