"""A real identity provider signs somebody out and says so (OpenID Connect Back-Channel Logout 1.0)."""

import json
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from tests.cli.test_cli import PATIENCE, free_port, serving
from tests.harness import authorization_request, code_request, json_of, query_of, refresh_request
from tests.integration.identity_providers import SCOPE
from tests.integration.keycloak import Keycloak
from tests.integration.login import client_id_from
from tests.integration.person import Person

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("keycloak")]


@pytest.mark.parametrize("of_session", [True, False], ids=["of a session", "of a user"])
async def test_who_is_signed_out_at_the_identity_provider_has_no_access_any_more(
    of_session: bool, keycloak: Keycloak, tmp_path: Path
) -> None:
    door = f"http://127.0.0.1:{free_port()}"
    registration = await keycloak.register(
        redirect_uris=[f"{door}/oauth/callback"],
        resource=f"{door}/mcp",
        logout={
            "backchannel.logout.url": f"{door}/oauth/backchannel-logout",
            "backchannel.logout.session.required": str(of_session).lower(),
        },
    )
    async with (
        serving(tmp_path, registration.settings, port=urlsplit(door).port) as server,
        Person(registration.user) as here,
        Person(registration.user) as elsewhere,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE, base_url=door) as http,
    ):
        client_id = await client_id_from(http, door)
        refreshes = []
        for browser in (here, elsewhere):
            asked = urlencode(authorization_request(client_id=client_id, scope=SCOPE))
            returned = query_of(await browser.authorize(f"{door}/oauth/authorize?{asked}"))
            form = code_request(client_id=client_id, code=returned["code"])
            tokens = json_of(await http.post("/oauth/token", data=form))
            refreshes.append(refresh_request(client_id=client_id, refresh_token=tokens["refresh_token"]))

        await here.confirm((await registration.metadata())["end_session_endpoint"])

        answers = [await http.post("/oauth/token", data=form) for form in refreshes]
        assert [answer.status_code for answer in answers] == [400, 200 if of_session else 400]
        log = [json.loads(line) for line in (await server.stop()).splitlines()]
    told = [line for line in log if line.get("endpoint") in {"backchannel-logout", "token"}]
    refreshed = ["refresh_token_revoked", "refreshed"] if of_session else ["grant_revoked", "grant_revoked"]
    assert [line["outcome"] for line in told] == ["exchanged", "exchanged", "logged_out", *refreshed]
