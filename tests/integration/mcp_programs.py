"""MCP servers and clients as programs of their own: how they are started, and the whole path of a client."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio

from tests.cli.test_cli import PATIENCE
from tests.harness import query_of
from tests.integration.node_programs import node_command
from tests.integration.person import Person
from tests.integration.python_programs import packaged_command
from tests.integration.real_parts import ready, running

HERE = Path(__file__).parent


@asynccontextmanager
async def mcp_server(folder: Path, url: str, protection: Mapping[str, str] | None = None) -> AsyncIterator[None]:
    """An MCP server at a URL on loopback, once it answers; with `protection` it checks tokens by itself."""
    log = folder / "mcp_server.log"
    arguments = [str(urlsplit(url).port)] + ([json.dumps(protection)] if protection else [])
    with running([sys.executable, str(HERE / "mcp_server.py"), *arguments], log) as process:
        await ready(url, process, log)
        yield


def client_command(client: str, folder: Path) -> list[str]:
    """The command that runs FastMCP's client, mcp-remote, or the client of the `python` or the `typescript` SDK."""
    match client:
        case "fastmcp":
            return packaged_command("fastmcp_client.py")
        case "mcp-remote":
            return node_command(folder, "mcp_remote.mjs")
        case "typescript":
            return node_command(folder, "mcp_client.mjs")
        case _:
            return [sys.executable, str(HERE / "mcp_client.py")]


async def calls_of(
    client: Sequence[str], server_url: str, tool: str, person: Person, folder: Path, grants: str | None = None
) -> tuple[list[str], dict[str, Any]]:
    """The scopes that a client asks for, login by login, while it calls a tool twice, and what it tells in the end."""
    arguments = [server_url, "", tool, *([grants] if grants else [])]
    log, scopes = folder / "mcp_client.log", []
    async with started(client, arguments, log) as process:
        while "authorize" in (event := await _event(process, log)):
            scopes.append(query_of(event["authorize"]).get("scope", ""))
            await person.open(await person.authorize(event["authorize"]))
    return scopes, event


@asynccontextmanager
async def started(
    client: Sequence[str], arguments: Sequence[str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client, which has to end by itself."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *client, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        try:
            with anyio.fail_after(PATIENCE):
                yield process
                assert await process.wait() == 0, log.read_text()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def whole_path(
    client: Sequence[str], server_url: str, person: Person, folder: Path, documented_at: str | None = None
) -> dict[str, Any]:
    """What a client tells in the end, after `person` has logged in when it asked for that, once.

    It does not register where it is documented at a URL.
    """
    arguments = [server_url] if documented_at is None else [server_url, documented_at]
    log = folder / "mcp_client.log"
    async with started(client, arguments, log) as process:
        asked = await _event(process, log)
        returned = await person.authorize(asked["authorize"])
        assert "code" in query_of(returned), returned
        await person.open(returned)
        told = await _event(process, log)
        assert "authorize" not in told, log.read_text()
        return told


async def _event(process: asyncio.subprocess.Process, log: Path) -> dict[str, Any]:
    assert process.stdout
    line = await process.stdout.readline()
    assert line, log.read_text()
    event: dict[str, Any] = json.loads(line)
    return event
