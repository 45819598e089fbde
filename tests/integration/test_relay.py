"""The relay flow over real HTTP: the client's own redirect URI, state and PKCE pair at a real identity provider."""

from pathlib import Path

import pytest

from tests.cli.test_cli import free_port, serving
from tests.harness import authorization_request, code_request, json_of, query_of, refresh_request
from tests.integration.login import client_id_from
from tests.integration.real_parts import identity_provider, idp_settings

pytestmark = pytest.mark.anyio


async def test_a_whole_login_of_the_relay_flow_and_a_refresh(tmp_path: Path) -> None:
    port = free_port()
    idp = f"http://127.0.0.1:{port}"
    environment = {**idp_settings(idp), "SEED_OAUTH_FLOW": "relay"}
    async with identity_provider(tmp_path, port), serving(tmp_path, environment) as server:
        http, token_endpoint = server.http, f"{server.url}/oauth/token"
        client_id = await client_id_from(http, server.url)
        asked = await http.get(f"{server.url}/oauth/authorize", params=authorization_request(client_id=client_id))
        assert asked.headers["location"].startswith(f"{idp}/authorize?")
        returned = query_of((await http.get(asked.headers["location"])).headers["location"])
        assert (returned["state"], returned["iss"]) == ("opaque state", idp)

        form = code_request(client_id=client_id, code=returned["code"])
        tokens = json_of(await http.post(token_endpoint, data=form))
        form = refresh_request(client_id=client_id, refresh_token=tokens["refresh_token"])
        refreshed = json_of(await http.post(token_endpoint, data=form))
        assert refreshed["access_token"] != tokens["access_token"]
