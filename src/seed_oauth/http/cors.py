"""Which responses scripts of other origins may read (Fetch §3.3): only those that depend on no cookie."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

READABLE_HEADERS = ("WWW-Authenticate", "Retry-After", "X-Correlation-Id")


MCP_HEADERS = (*READABLE_HEADERS, "Mcp-Session-Id", "Mcp-Protocol-Version")

READABLE = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(MCP_HEADERS).encode()),
)
"""The header fields of a response that scripts of every origin may read."""


class UncachedCORSMiddleware(CORSMiddleware):
    """Starlette's, for responses that are never cached: without an `Origin` in the request they need no `Vary`."""

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        """Answer a request that is not a preflight."""
        if "origin" in request_headers:
            await super().simple_response(scope, receive, send, request_headers)
        else:
            await self.app(scope, receive, send)


DOCUMENT_CORS = Middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_methods=["GET"],
    allow_headers=["*"],
    allow_private_network=True,
    expose_headers=READABLE_HEADERS,
)
"""Browser-based clients read metadata from their own origin."""

ENDPOINT_CORS = Middleware(
    UncachedCORSMiddleware,
    allow_origins=["*"],
    allow_methods=["GET", "POST"],
    allow_headers=["*"],
    allow_private_network=True,
    expose_headers=READABLE_HEADERS,
)
"""They also register and exchange tokens from there. They never fetch /oauth/authorize: the browser navigates to it."""

LOOPBACK_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def resource_cors(origins: Sequence[str]) -> Middleware:
    """The MCP server behind this server; its sessions are in a header (MCP Transports, "Session Management").

    `origins` are those whose scripts may call it, or `*`; those on loopback may.
    """
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_origin_regex=LOOPBACK_ORIGIN.pattern,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=MCP_HEADERS,
    )


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks if it may send a request."""
    # A browser asks without credentials whether it may send some (Fetch §3.3.4).
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def allows_origin(message: Message) -> bool:
    """Whether the start of a response already has an answer for the origin."""
    return any(name.lower() == b"access-control-allow-origin" for name, _ in message.get("headers", ()))
