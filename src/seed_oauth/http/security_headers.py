"""Header fields that every answer has, whoever made it: pages, JSON, redirects, errors, preflights.

Pages have a Content Security Policy besides (`pages.py`). Not among them: Cross-Origin-Opener-Policy, which would cut
a client in a browser off from the window in which it lets its user log in; and Permissions-Policy, because pages here
run no script that could ask for a permission.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_A_YEAR = 365 * 24 * 60 * 60  # seconds

_NOSNIFF = (b"x-content-type-options", b"nosniff")
"""What is JSON must not be run because somebody else's page calls it a script."""

# RFC 6797 §6.1; without includeSubDomains, because what else is below this host is not ours to decide.
_HSTS = (b"strict-transport-security", f"max-age={_A_YEAR}".encode())


class SecurityHeaders:
    """ASGI middleware that adds them. An answer that has one already, as the MCP server's may, keeps its own."""

    def __init__(self, app: ASGIApp, issuer: str) -> None:
        """`issuer` tells whether browsers reach this server by https."""
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
