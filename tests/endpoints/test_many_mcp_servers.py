"""Several MCP servers behind one front door, each a protected resource of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from seed_oauth.outcomes import ResourceOutcome
from tests.broker import BrokerDoor
from tests.cli.test_cli import free_port
from tests.harness import ISSUER, json_of
from tests.http_client.test_transport import Handler, listening

pytestmark = pytest.mark.anyio

NINE = ("mail", "files", "calendar", "issues", "wiki", "shop/orders", "shop", "search", "chat")


def answering_with(name: str) -> Handler:
    """An MCP server that answers every request with its name."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line), b"0"
            )
            await reader.readexactly(int(length))
            body = json.dumps(name).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)

    return handler


@asynccontextmanager
async def door_to(
    *names: str, rules: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[BrokerDoor]:
    """A door with an MCP server of each name at its path."""
    async with AsyncExitStack() as stack:
        servers = []
        for name in names:
            port = await stack.enter_async_context(listening(answering_with(name)))
            servers.append(
                {"resource": f"{ISSUER}/{name}", "url": f"http://127.0.0.1:{port}/mcp", **(rules or {}).get(name, {})}
            )
        given = {"mcp_servers": servers, "access_tokens": "own", **settings}
        yield await stack.enter_async_context(BrokerDoor(settings=given))


async def ask(door: BrokerDoor, name: str, token: str | None, tool: str = "look") -> httpx.Response:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await door.http.post(f"/{name}", json=call, headers=headers)


async def test_nine_servers_have_their_own_metadata_logins_and_tokens() -> None:
    """RFC 8707 §2: a token is for one of them, and no other takes it."""
    async with door_to(*NINE) as door:
        tokens = {}
        for name in NINE:
            challenge = (await ask(door, name, None)).headers["www-authenticate"]
            assert f'resource_metadata="{ISSUER}/.well-known/oauth-protected-resource/{name}"' in challenge
            document = json_of(await door.http.get(f"/.well-known/oauth-protected-resource/{name}"))
            assert document["resource"] == f"{ISSUER}/{name}"
            tokens[name] = (await door.login(resource=document["resource"]))["access_token"]
        for name in NINE:
            for of, token in tokens.items():
                response = await ask(door, name, token)
                assert response.status_code == (200 if of == name else 401), (name, of)
                if of == name:
                    assert response.json() == name
        wrong = len(NINE) * (len(NINE) - 1)
        assert await door.error_count(ResourceOutcome.WRONG_AUDIENCE) == wrong


async def test_each_server_has_scopes_and_a_table_of_tools_of_its_own() -> None:
    rules = {"mail": {"required_scopes": "mail", "tool_scopes": {"mail:send": ["send"]}}, "files": {}}
    async with door_to("mail", "files", rules=rules, scopes="mail files mail:send") as door:
        scopes = {
            name: json_of(await door.http.get(f"/.well-known/oauth-protected-resource/{name}"))["scopes_supported"]
            for name in ("mail", "files")
        }
        assert scopes == {"mail": ["mail", "files", "mail:send"], "files": ["mail", "files", "mail:send"]}
        mail = (await door.login(resource=f"{ISSUER}/mail", scope="mail"))["access_token"]
        files = (await door.login(resource=f"{ISSUER}/files", scope="files"))["access_token"]
        assert (await ask(door, "mail", mail)).status_code == 200
        assert (await ask(door, "mail", mail, "send")).status_code == 403
        assert (await ask(door, "files", files, "send")).status_code == 200
        without = (await door.login(resource=f"{ISSUER}/mail", scope="files"))["access_token"]
        assert (await ask(door, "mail", without)).status_code == 403


async def test_readyz_names_the_server_that_is_gone() -> None:
    port = free_port()
    servers = {"gone": {"url": f"http://127.0.0.1:{port}/mcp"}}
    async with door_to("mail", "gone", rules=servers) as door:
        response = await door.http.get("/readyz")
        assert response.status_code == 503
        assert json_of(response)["problems"] == [
            f"the MCP server of {ISSUER}/gone cannot be reached: Connection refused"
        ]


async def test_a_server_that_hangs_leaves_the_others_alone() -> None:
    async def hangs(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(hangs) as port:
        slow = {"slow": {"url": f"http://127.0.0.1:{port}/mcp", "timeout": 0.2}}
        async with door_to("mail", "slow", rules=slow) as door:
            tokens = {
                name: (await door.login(resource=f"{ISSUER}/{name}"))["access_token"] for name in ("mail", "slow")
            }
            waiting = asyncio.create_task(ask(door, "slow", tokens["slow"]))
            assert (await ask(door, "mail", tokens["mail"])).status_code == 200
            assert (await waiting).status_code == 504


async def test_a_path_that_no_server_has_is_not_found() -> None:
    async with door_to("mail", "files") as door:
        for path in ("/", "/mcp", "/mail/x", "/mai", "/.well-known/oauth-protected-resource/mcp"):
            assert (await door.http.get(path)).status_code == 404, path
        assert (await door.http.get("/mail/")).status_code == 401
