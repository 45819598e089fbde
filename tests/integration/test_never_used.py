"""Clients that stop after the token, as the operator meets them who hears "it says connected, but nothing works"."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from seed_oauth.cli.main import app
from tests.cli.test_cli import Server, free_port, serving
from tests.deployment.test_deployment import prometheus_elsewhere
from tests.http_client.test_transport import listening
from tests.integration.busy_door import mcp_server, scrape, steps
from tests.integration.collector import OTEL
from tests.integration.login import code_from
from tests.integration.real_parts import Prometheus, eventually, identity_provider, idp_settings

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("prometheus")]

LOGINS = 6
ALERT = "OAuthTokensNeverUsed"


async def on_the_page(http: httpx.AsyncClient, metrics: str) -> dict[str, Any]:
    """What the page shows of the last ten minutes; nothing before it has read of all logins."""
    figures = (await http.get(metrics.replace("/metrics", "/figures"))).json()
    shown: dict[str, Any] = figures["periods"][0]
    return shown if any(family["exchanged"] == LOGINS for family in shown["families"]) else {}


async def log_in_and_stop(server: Server) -> None:
    await server.http.get(f"{server.url}/mcp")
    for _ in range(LOGINS):
        form = await code_from(server.http, server.url)
        assert (await server.http.post(f"{server.url}/oauth/token", data=form)).status_code == 200


async def pending(running: Prometheus) -> list[str]:
    return [series["metric"]["client_family"] for series in await running.query(f'ALERTS{{alertname="{ALERT}"}}')]


async def test_the_funnel_the_page_the_log_and_the_alert_say_that_they_do_not_use_their_tokens(tmp_path: Path) -> None:
    shutil.copytree(OTEL / "rules", tmp_path / "rules")
    idp_port, metrics_port = free_port(), str(free_port())
    async with (
        identity_provider(tmp_path, idp_port),
        listening(mcp_server) as mcp_port,
        prometheus_elsewhere(tmp_path, {"app:9464": f"127.0.0.1:{metrics_port}"}) as running,
    ):
        environment = {
            **idp_settings(f"http://127.0.0.1:{idp_port}"),
            "SEED_OAUTH_ACCESS_TOKENS": "own",
            "SEED_OAUTH_MCP_SERVER": f"http://127.0.0.1:{mcp_port}/mcp",
            "SEED_OAUTH_METRICS_PORT": metrics_port,
        }
        async with serving(tmp_path, environment) as server:
            # An increase is seen from the first scrape on.
            await eventually(lambda: running.query("oauth_flow_steps_total"))
            await log_in_and_stop(server)
            taken = steps(await scrape(server.http, server.metrics))
            assert (taken["exchanged", "other"], "used" in {step for step, _ in taken}) == (LOGINS, False)

            shown = await eventually(lambda: on_the_page(server.http, server.metrics))
            assert f"Clients do not use them: other used 0 of {LOGINS}." in shown["verdict"]["text"]
            assert shown["loss"] == {"from": "exchanged", "to": "used", "lost": LOGINS, "of": LOGINS}

            assert await eventually(lambda: pending(running)) == ["other"]
            log = await server.stop()

    told = CliRunner().invoke(app, ["explain", json.loads(log.splitlines()[-1])["flow_id"]], input=log).stdout
    assert "The client has its tokens, and no request with them is in this log" in told
    for text in (shown["verdict"]["text"], told):
        assert re.findall(r"`seed-oauth (doctor --alert \w+)`", text) == [f"doctor --alert {ALERT}"]
