"""Real MCP clients before a server whose tools are split by scope: a 403, one more login, and the call succeeds."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.test_cli import Server, free_port, serving
from tests.harness import samples_of
from tests.integration.identity_providers import SCOPE
from tests.integration.mcp_programs import calls_of, client_command, mcp_server
from tests.integration.oidc_provider import oidc_provider
from tests.integration.person import Person

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_parts("node"),
    pytest.mark.parametrize("access_tokens", ["auto", "own"]),
]

ADMIN = "mcp:admin"
TOOL = "received_headers"
WITHOUT_REFRESH = "authorization_code"


@dataclass
class Site:
    """A front door before an MCP server with a tool that needs another scope."""

    server: Server
    person: Person
    folder: Path

    async def calls(self, sdk: str, grants: str | None = None) -> tuple[list[set[str]], dict[str, Any]]:
        client, url = client_command(sdk, self.folder), f"{self.server.url}/mcp"
        scopes, told = await calls_of(client, url, TOOL, self.person, self.folder, grants)
        return [set(scope.split()) & {SCOPE, ADMIN} for scope in scopes], told

    async def counted(self) -> dict[str, float]:
        """Steps and refusals at the MCP server that were counted."""
        samples = samples_of((await self.server.http.get(self.server.metrics)).text)
        counted = {}
        for (name, labels), value in samples.items():
            said = dict(labels)
            if value and name == "oauth_flow_steps_total" and said["step"] == "stepped_up":
                counted["stepped_up"] = value
            if value and name == "oauth_errors_total" and said["reason"] in {"step_up_required", "scope_not_granted"}:
                counted[said["reason"]] = value
        return counted


@asynccontextmanager
async def site(folder: Path, access_tokens: str, *, granted: str) -> AsyncIterator[Site]:
    """The identity provider grants the scopes in `granted`."""
    door, behind = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}/mcp"
    callback, resource = f"{door}/oauth/callback", f"{door}/mcp"
    async with oidc_provider(folder, redirect_uris=[callback], resource=resource, scope=granted) as registration:
        environment = {
            **registration.settings,
            "SEED_OAUTH_MCP_SERVER": behind,
            "SEED_OAUTH_ACCESS_TOKENS": access_tokens,
            "SEED_OAUTH_TOOL_SCOPES": json.dumps({ADMIN: ["received_*"], SCOPE: ["add"]}),
        }
        async with (
            mcp_server(folder, behind),
            serving(folder, environment, port=urlsplit(door).port) as server,
            Person(registration.user) as person,
        ):
            yield Site(server, person, folder)


@pytest.mark.parametrize(("sdk", "grants"), [("python", None), ("typescript", WITHOUT_REFRESH)])
async def test_a_client_steps_up_once_and_then_calls_the_tool(
    sdk: str, grants: str | None, access_tokens: str, tmp_path: Path
) -> None:
    """PROTOCOL M8 (MCP Authorization, "Step-Up Authorization Flow")."""
    async with site(tmp_path, access_tokens, granted=f"{SCOPE} {ADMIN}") as door:
        scopes, told = await door.calls(sdk, grants)
        assert scopes == [{SCOPE}, {SCOPE, ADMIN}]
        assert told["calls"] == ["ok", "ok"]
        assert told["listed"] == [["add"], ["add", TOOL]]
        assert await door.counted() == {"stepped_up": 1, "step_up_required": 1}


@pytest.mark.parametrize(("sdk", "grants"), [("python", None), ("typescript", WITHOUT_REFRESH)])
async def test_a_client_that_is_not_granted_the_scope_logs_in_for_it_once(
    sdk: str, grants: str | None, access_tokens: str, tmp_path: Path
) -> None:
    """MCP Authorization, "Step-Up Authorization Flow": clients limit how often they try, and so does the door."""
    async with site(tmp_path, access_tokens, granted=SCOPE) as door:
        scopes, told = await door.calls(sdk, grants)
        assert scopes == [{SCOPE}, {SCOPE, ADMIN}]
        assert told["listed"] == [["add"], ["add"]]
        for call in told["calls"]:
            assert f"the last login did not bring the scopes {ADMIN}" in call
        assert await door.counted() == {"stepped_up": 1, "step_up_required": 1, "scope_not_granted": 2}


async def test_a_client_that_refreshes_instead_ends_with_an_error(access_tokens: str, tmp_path: Path) -> None:
    """TypeScript SDK 1.x with a refresh token (typescript-sdk #2255): no loop, and no login."""
    async with site(tmp_path, access_tokens, granted=f"{SCOPE} {ADMIN}") as door:
        scopes, told = await door.calls("typescript")
        assert scopes == [{SCOPE}]
        assert told["listed"] == [["add"], ["add"]]
        assert all("403" in call or "the last login" in call for call in told["calls"])
