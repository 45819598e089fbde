"""Security header fields of every response: pages, JSON, redirects, errors, preflights.

Pages also have a Content Security Policy (`pages.py`). There is no Cross-Origin-Opener-Policy, which would cut off a
browser-based client from the window in which its user logs in, and no Permissions-Policy, because the pages run no
script that could use a permission.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_A_YEAR = 365 * 24 * 60 * 60  # seconds

_NOSNIFF = (b"x-content-type-options", b"nosniff")
"""JSON must not run as a script because another page includes it as one."""

# RFC 6797 §6.1; without includeSubDomains, because the subdomains are not ours.
_HSTS = (b"strict-transport-security", f"max-age={_A_YEAR}".encode())


class SecurityHeaders:
    """ASGI middleware that adds them. A response that already has one, as the MCP server's may, keeps its own."""

    def __init__(self, app: ASGIApp, issuer: str) -> None:
        """The scheme of `issuer` tells whether browsers reach this server by https."""
        self._app = app
        self._headers = (_NOSNIFF, _HSTS) if issuer.startswith("https://") else (_NOSNIFF,)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message.get("headers", ())
                names = dict(sent)
                message["headers"] = [*sent, *[header for header in self._headers if header[0] not in names]]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
