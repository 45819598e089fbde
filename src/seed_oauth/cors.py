"""Which answers scripts of other origins may read (PROTOCOL M6): none of them depends on a cookie."""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

READABLE_HEADERS = ("WWW-Authenticate", "Retry-After", "X-Correlation-Id")

ENDPOINT_CORS = Middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_methods=["GET", "POST"],
    allow_headers=["*"],
    expose_headers=READABLE_HEADERS,
)
"""Browser-based clients read metadata, register and exchange tokens from their own origin. They never fetch
/oauth/authorize: a browser goes there by itself."""

RESOURCE_CORS = Middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_methods=["GET", "POST", "DELETE"],
    allow_headers=["*"],
    expose_headers=[*READABLE_HEADERS, "Mcp-Session-Id", "Mcp-Protocol-Version"],
)
"""The MCP server behind the door, whose sessions are in a header."""
