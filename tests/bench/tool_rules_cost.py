"""What judging and measuring an operation cost a request: one build with and without each, in turns, in one run.

    python tests/bench/tool_rules_cost.py

A tool call with a body of 2 kB, an access token of the door's own and the header fields of MCP 2026-07-28 goes through
`protect` to an app that does nothing. Nothing is sent over a network: what is compared is the CPU time of one process.
"""

import argparse
import asyncio
import json
from collections.abc import Mapping
from statistics import median
from time import process_time
from typing import Any

import structlog
from access_tokens import own_token
from starlette.types import Message, Receive, Scope, Send

from seed_oauth import ProtectedApp, Settings, protect

SECRET_KEY = "a-key-for-the-bench-of-random-characters"
ISSUER = "https://door.example"
TABLES: Mapping[str, Any] = {
    "tool_scopes": {"files:write": ["write_file", "delete_*"], "files:read": ["read_*"], "admin": ["admin_*"]},
    "method_scopes": {"files:read": ["resources/read"]},
}
METRICS: Mapping[str, Any] = {"mcp_metrics": "on", "mcp_tools": ["write_file"]}
BUILDS = {"a table": TABLES, "metrics": METRICS, "a table and metrics": {**TABLES, **METRICS}}
TURN = 256  # requests: as many operations as are recorded in one batch

BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {
            "name": "write_file",
            "arguments": {"path": "notes/today.md", "content": "a line with \"quotes\" and a 'name'\n" * 52},
            "_meta": {"progressToken": 1, "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"}},
        },
    },
    separators=(",", ":"),  # as JSON.stringify and httpx write it, and with them the clients of both SDKs
).encode()


async def mcp(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


def protected(tables: Mapping[str, Any]) -> ProtectedApp:
    settings = Settings(issuer=ISSUER, secret_keys=SECRET_KEY, access_tokens="own", **tables)  # type: ignore[arg-type]
    return protect(mcp, settings)


def request() -> Scope:
    token = own_token(ISSUER, SECRET_KEY)
    fields = {
        "host": "door.example",
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "user-agent": "bench",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "write_file",
    }
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    return {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": headers}


async def turn(app: ProtectedApp, scope: Scope) -> float:
    """CPU microseconds of a request."""
    statuses = set()

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Message) -> None:
        statuses.add(message.get("status", 200))

    before = process_time()
    for _ in range(TURN):
        await app(dict(scope), receive, send)
    spent = process_time() - before
    assert statuses == {200}
    return spent / TURN * 1e6


async def measure(turns: int) -> list[float]:
    """CPU microseconds of a request with nothing and with each of `BUILDS`: medians."""
    apps, scope = [protected(settings) for settings in ({}, *BUILDS.values())], request()
    costs = [[await turn(app, scope) for app in apps] for _ in range(turns + 1)][1:]
    return [median(of_one) for of_one in zip(*costs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=100, help="of 256 requests to each build (100)")
    turns = parser.parse_args().turns
    structlog.configure(processors=[lambda *_: ""], logger_factory=structlog.ReturnLoggerFactory())
    without, *others = asyncio.run(measure(turns))
    print(f"{len(BODY)} bytes: {without:.0f} us with neither")
    for name, cost in zip(BUILDS, others, strict=True):
        print(f"{cost:.0f} us with {name}: {cost - without:.1f} us more, ratio {cost / without:.3f}")


if __name__ == "__main__":
    main()
