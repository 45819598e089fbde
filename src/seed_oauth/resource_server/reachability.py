"""Whether the MCP server can be reached, and answers."""

import asyncio
import errno
import os
from urllib.parse import urlsplit

import aiohttp

_PATIENCE = 1.0  # seconds; the MCP server is nearby
_ANSWER = aiohttp.ClientTimeout(total=5)
_PORTS = {"http": 80, "https": 443}


async def connect(mcp_server: str) -> None:
    """Connect to the URL and disconnect.

    Raises:
        OSError: no connection can be made; a `TimeoutError` after a second.
    """
    url = urlsplit(mcp_server)
    async with asyncio.timeout(_PATIENCE):
        _, writer = await asyncio.open_connection(
            url.hostname, url.port or _PORTS[url.scheme], ssl=True if url.scheme == "https" else None
        )
    writer.transport.abort()


async def status_of(mcp_server: str) -> int:
    """The status with which the URL answers a GET without a token and a session.

    Raises:
        OSError: no connection can be made, or there is no valid answer in time.
    """
    await connect(mcp_server)
    accepted = {"Accept": "application/json, text/event-stream"}
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=_ANSWER) as session,
            session.get(mcp_server, headers=accepted, allow_redirects=False) as answer,
        ):
            return answer.status
    except aiohttp.ClientError as invalid:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from invalid
