"""An MCP client of the Python SDK, as a program: finds out how to log in at the server it is given, and calls a tool.

It prints JSON objects, one a line: `{"authorize": URL}` when somebody has to go there with a browser, and in the end
`{"sums": […], "tokens": N}`, the results of a tool called before and after its access token ran out, and how often it
was given tokens. Where it is given the URL of its metadata document as well, it does not register.

Where it is given the name of a tool instead, it calls that twice, between two lists of tools. Then it prints
`{"listed": [[…], […]], "calls": […], "tokens": N}`: the names, and of each call "ok" or what the server says of it.
"""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp.shared.exceptions import MCPError
from pydantic import AnyUrl

LONG_AGO = 1.0
"""A Unix time."""


class Memory:
    """Where the provider keeps what it got."""

    def __init__(self) -> None:
        self.tokens: list[OAuthToken] = []
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens[-1] if self.tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens.append(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Callback:
    """The loopback listener that the browser comes back to."""

    def __init__(self) -> None:
        self._queries: asyncio.Queue[str] = asyncio.Queue()

    async def listen(self) -> str:
        """The redirect URI."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/callback"

    async def result(self) -> AuthorizationCodeResult:
        returned = {name: values[0] for name, values in parse_qs(await self._queries.get()).items()}
        return AuthorizationCodeResult.model_validate(returned)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
        await writer.drain()
        writer.close()
        self._queries.put_nowait(urlsplit(request.split()[1].decode()).query)


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201 - a program says what happens


async def send_to_browser(url: str) -> None:
    say(authorize=url)


async def add(client: Client, a: int, b: int) -> Any:
    result = await client.call_tool("add", {"a": a, "b": b})
    return result.structured_content["result"]


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]


async def call(client: Client, tool: str) -> str:
    try:
        await client.call_tool(tool, {})
    except MCPError as refused:
        return str(refused)
    return "ok"


async def main(server_url: str, client_metadata_url: str | None = None, tool: str | None = None) -> None:
    memory = Memory()
    callback = Callback()
    provider = OAuthClientProvider(
        server_url,
        OAuthClientMetadata(client_name="Python SDK", redirect_uris=[AnyUrl(await callback.listen())]),
        memory,
        redirect_handler=send_to_browser,
        callback_handler=callback.result,
        client_metadata_url=client_metadata_url or None,
    )
    async with (
        httpx2.AsyncClient(auth=provider, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(server_url, http_client=http)) as client,
    ):
        if tool is not None:
            listed, calls = [await names(client)], [await call(client, tool), await call(client, tool)]
            say(listed=[*listed, await names(client)], calls=calls, tokens=len(memory.tokens))
            return
        first = await add(client, 1, 2)
        provider.context.token_expiry_time = LONG_AGO  # the SDK refreshes what has run out by its clock
        second = await add(client, 3, 4)
    say(sums=[first, second], tokens=len(memory.tokens))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
