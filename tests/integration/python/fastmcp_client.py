"""An MCP client of FastMCP, which says and does what ../mcp_client.py does."""

import asyncio
import json
import sys
import webbrowser
from typing import Any

from fastmcp import Client
from fastmcp.client.auth import OAuth
from key_value.aio.stores.memory import MemoryStore

LONG_AGO = 1.0
"""A Unix time."""


class Memory(MemoryStore):
    """Where the client keeps what it got."""

    tokens = 0

    async def put(self, key: str, *args: Any, **options: Any) -> None:
        self.tokens += key.endswith("/tokens")
        await super().put(key, *args, **options)


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201 - a program says what happens


async def main(server_url: str) -> None:
    webbrowser.open = lambda url: say(authorize=url)
    memory = Memory()
    oauth = OAuth(server_url, client_name="FastMCP", callback_host="127.0.0.1", token_storage=memory)
    async with Client(server_url, auth=oauth) as client:
        first = await client.call_tool("add", {"a": 1, "b": 2})
        oauth.context.token_expiry_time = LONG_AGO  # it refreshes what has run out by its clock
        second = await client.call_tool("add", {"a": 3, "b": 4})
    say(sums=[first.structured_content["result"], second.structured_content["result"]], tokens=memory.tokens)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
