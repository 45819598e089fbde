"""Real MCP servers that the door protects: one behind its reverse proxy, and the example that protects itself."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from seed_oauth import Settings
from seed_oauth.envelopes.access_token import AccessToken
from tests.cli.test_cli import free_port, serving
from tests.harness import sealer_of
from tests.integration.conftest import Register
from tests.integration.mcp_programs import client_command, mcp_server, whole_path
from tests.integration.person import Person
from tests.integration.real_parts import ready, running
from tests.resource_server.issuing import SECRET_KEY

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "python_mcp_server.py"


@pytest.mark.parametrize("sdk", ["python", pytest.param("typescript", marks=pytest.mark.real_parts("node"))])
async def test_an_sdk_takes_the_whole_path_to_a_server_behind_the_reverse_proxy(
    sdk: str, register: Register, tmp_path: Path
) -> None:
    """PROTOCOL M5: from 401 by login, a tool call and a refresh to another call; the server itself checks nothing."""
    door, inner = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}/mcp"
    resource = f"{door}/mcp"
    async with register(redirect_uris=[f"{door}/oauth/callback"], resource=resource) as registration:
        environment = {**registration.settings, "SEED_OAUTH_MCP_SERVER": inner}
        async with (
            serving(tmp_path, environment, port=urlsplit(door).port),
            mcp_server(tmp_path, inner),
            Person(registration.user) as person,
        ):
            told = await whole_path(client_command(sdk, tmp_path), resource, person, tmp_path)
    assert told == {"sums": [3, 7], "tokens": 2}


def own_token(settings: Settings, subject: str) -> str:
    """An access token as the door of the same settings issues it."""
    return AccessToken(
        client_id="client",
        resource=settings.protected_resources[0],
        scope="",
        expires_at=int(time()) + 300,
        subject=subject,
        idp_access_token="the token of the identity provider",
        grant_id="grant",
        issued_at=time(),
    ).sealed(sealer_of(settings), time())


@asynccontextmanager
async def client_of(url: str, token: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


def settings_of(door: str, **given: Any) -> Settings:
    return Settings.load(issuer=door, secret_keys=SECRET_KEY, access_tokens="own", **given)


async def test_the_example_protects_itself_and_knows_who_calls(tmp_path: Path) -> None:
    """What docs/examples/python_mcp_server.py promises, with the door elsewhere."""
    url = f"http://127.0.0.1:{free_port()}/mcp"
    settings = settings_of(f"http://127.0.0.1:{free_port()}", resources=url)
    environment = {**settings.as_environment(), "PORT": str(urlsplit(url).port)}
    log = tmp_path / "example.log"
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with running([sys.executable, str(EXAMPLE)], log) as process:
            await ready(url, process, log)
            async with httpx.AsyncClient(trust_env=False) as http:
                refused = await http.post(url, json={})
                assert refused.status_code == 401, log.read_text()
                where = refused.headers["www-authenticate"].partition('resource_metadata="')[2].split('"')[0]
                assert (await http.get(where)).json()["authorization_servers"] == [settings.issuer]
            for subject in ("alice", "bob"):
                async with client_of(url, own_token(settings, subject)) as client:
                    told = await client.call_tool("who_am_i", {})
                    assert told.structured_content == {"result": subject}


async def test_a_server_behind_the_reverse_proxy_is_told_who_calls_and_not_with_what(tmp_path: Path) -> None:
    """THREATS 15."""
    door, inner = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}/mcp"
    settings = settings_of(door, mcp_server=inner)
    async with (
        serving(tmp_path, settings.as_environment(), port=urlsplit(door).port),
        mcp_server(tmp_path, inner),
        client_of(f"{door}/mcp", own_token(settings, "alice")) as client,
    ):
        told = await client.call_tool("received_headers", {})
    headers = told.structured_content
    assert headers is not None
    assert headers["x-seed-oauth-subject"] == "alice"
    assert headers["x-seed-oauth-idp-token"] == "the%20token%20of%20the%20identity%20provider"
    assert "authorization" not in headers
