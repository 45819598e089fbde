"""A front door that has had requests of every kind, and pushes what it counts."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx

from tests.cli.test_cli import PATIENCE, Server, free_port, serving
from tests.harness import Samples, authorization_request, json_of, samples_of
from tests.http_client.test_transport import listening, response
from tests.integration.login import code_from
from tests.integration.real_parts import eventually, identity_provider, idp_settings
from tests.resource_server.test_measured import COUNT, FAILED, OK, VERSION, call


async def scrape(http: httpx.AsyncClient, url: str) -> Samples:
    return samples_of((await http.get(url)).text)


async def play(server: Server) -> None:
    """Requests of every endpoint, good ones and bad ones."""
    url, http = server.url, server.http
    metadata = {"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"}
    client_id = (await http.post(f"{url}/oauth/register", json=metadata)).json()["client_id"]
    await http.post(f"{url}/oauth/register", json={})
    for changes in ({}, {"client_id": "nobody"}, {"code_challenge": "short"}):
        request = {**authorization_request(client_id=client_id, redirect_uri="http://127.0.0.1/callback"), **changes}
        await http.get(f"{url}/oauth/authorize", params=request)
    for grant in ({"grant_type": "refresh_token", "refresh_token": "unknown"}, {"grant_type": "password"}):
        await http.post(f"{url}/oauth/token", data={**grant, "client_id": client_id})
    await http.post(f"{url}/oauth/consent", data={"decision": "approve"})
    await http.get(f"{url}/oauth/callback", params={"state": "made-up"})
    await http.post(f"{url}/oauth/revoke", data={"token": "unknown", "client_id": client_id})


async def mcp_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An MCP server each of whose tools fails, and whose event stream never ends."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            await reader.read()
            return
        (length,) = re.findall(rb"(?i)\r\ncontent-length: *(\d+)", head)
        answer = FAILED if b"tools/call" in await reader.readexactly(int(length)) else OK
        writer.write(response(json.dumps(answer).encode(), headers=b"Content-Type: application/json\r\n"))


OPERATIONS = {
    ("tool_error", "search", "tools/call"): 20,
    ("tool_error", "_other", "tools/call"): 10,
    ("tools/list",): 10,
}
"""How often `login_and_calls` asks for each operation, as `operations` finds it."""


async def login_and_calls(server: Server) -> dict[str, str]:
    """A login from its first 401, and calls at once, each on a connection of its own that any worker may take.

    Returns the header with its access token.
    """
    headers = {"User-Agent": "claude-code/2.1"}
    for path in ("/mcp", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"):
        await server.http.get(f"{server.url}{path}", headers=headers)
    tokens = json_of(await server.http.post(f"{server.url}/oauth/token", data=await code_from(server.http, server.url)))
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}

    async def post(message: object) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            called = await http.post(f"{server.url}/mcp", json=message, headers={**VERSION, **bearer})
            assert called.status_code == 200

    messages = [call("search"), call("search"), call("made-up"), {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]
    async with anyio.create_task_group() as group:
        for message in 10 * messages:
            group.start_soon(post, message)
    return bearer


STEPS = {
    ("challenged", "claude"): 1,
    ("discovered_resource", "claude"): 1,
    ("discovered_server", "claude"): 1,
    ("registered", "other"): 2,
    # Those of `play` that go no further have sent no browser.
    ("requested", "other"): 1,
    ("consented", "other"): 1,
    ("redirected", "other"): 1,
    ("returned", "other"): 1,
    ("exchanged", "other"): 1,
    ("used", "other"): 1,
}


def steps(samples: Samples) -> dict[tuple[str, str], float]:
    """The steps that were counted, by step and family."""
    return {
        (dict(labels)["step"], dict(labels)["client_family"]): value
        for (name, labels), value in samples.items()
        if name == "oauth_flow_steps_total" and value
    }


def operations(samples: Samples) -> dict[tuple[str, ...], float]:
    """The operations that were counted, by the values of their labels in the order of the labels' names."""
    return {
        tuple(value for label, value in sorted(labels) if value): times
        for (name, labels), times in samples.items()
        if name == COUNT
    }


def pushing_to(receiver: str, idp: str, **more: str) -> Mapping[str, str]:
    return {
        **idp_settings(idp),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "SEED_OAUTH_LOG_LEVEL": "error",
        **more,
    }


@asynccontextmanager
async def busy_door(folder: Path, receiver: str, workers: str, **more: str) -> AsyncIterator[Server]:
    """A front door that has answered requests of every kind, and has an event stream open."""
    idp_port = free_port()
    async with identity_provider(folder, idp_port), listening(mcp_server) as mcp_port:
        environment = pushing_to(
            receiver,
            f"http://127.0.0.1:{idp_port}",
            SEED_OAUTH_ACCESS_TOKENS="own",
            SEED_OAUTH_MCP_METRICS="on",
            SEED_OAUTH_MCP_SERVER=f"http://127.0.0.1:{mcp_port}/mcp",
            SEED_OAUTH_MCP_TOOLS="search",
            SEED_OAUTH_WORKERS=workers,
            **more,
        )
        async with serving(folder, environment) as server:

            async def total(name: str) -> float:
                samples = await scrape(server.http, server.metrics)
                return sum(value for (found, _), value in samples.items() if found == name)

            async def all_workers_are_up() -> bool:
                return await total("seed_oauth_worker_up") == int(workers)

            async def stream_is_shown() -> bool:
                return await total("seed_oauth_mcp_streams") == 1

            await eventually(all_workers_are_up)
            await play(server)
            bearer = await login_and_calls(server)
            async with server.http.stream("GET", f"{server.url}/mcp", headers=bearer) as stream:
                assert stream.status_code == 200
                await eventually(stream_is_shown)
                yield server
