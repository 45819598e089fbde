"""Whether the MCP server can be reached, without sending it a request."""

import asyncio
from urllib.parse import urlsplit

_PATIENCE = 1.0  # seconds; the MCP server is nearby
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
