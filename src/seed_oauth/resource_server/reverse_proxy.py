"""The reverse proxy in front of the MCP server: requests with a valid access token pass, unbuffered both ways."""

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from starlette.requests import Request

from seed_oauth.http.answer import Answer
from seed_oauth.http.cors import LOOPBACK_ORIGIN
from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.http_client.connection_pool import ConnectionPool
from seed_oauth.http_client.exchange import BrokenConnectionError, Exchange, Headers, InvalidResponseError
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.headers import VISIBLE, identity_headers, without_identity
from seed_oauth.resource_server.mcp_server_circuit import circuit_of
from seed_oauth.resource_server.operations import LARGEST
from seed_oauth.resource_server.proxied_answer import (
    COOKIES,
    HOP_BY_HOP,
    ProxiedAnswer,
    named_by_connection,
)
from seed_oauth.resource_server.request_stream import RequestStream
from seed_oauth.resource_server.tool_lists import ToolLists, uncompressed
from seed_oauth.telemetry.client_spans import TRACE_FIELDS, ClientSpans

METHODS = ("GET", "POST", "DELETE")
"""The methods of Streamable HTTP (MCP Transports)."""

_IDEMPOTENT = frozenset({"GET", "DELETE"})  # RFC 9110 §9.2.2

_CONNECT_TIMEOUT = 5.0  # seconds; the MCP server is nearby
_KEEPALIVE = 4.0  # seconds an idle connection is kept: uvicorn and Node close theirs after five

# Headers that servers trust a proxy to set, and those that concern only the connection to this server.
_NOT_PASSED_ON = HOP_BY_HOP | COOKIES
_NOT_PASSED_ON |= {b"host", b"content-length", b"expect", b"forwarded", b"x-real-ip", b"proxy", b"origin"}
_FORWARDED_PREFIX = b"x-forwarded-"

_REDIRECTS = "redirects: its operator has to set SEED_OAUTH_MCP_SERVER to the URL that answers"
_PROBLEMS = {
    # Nobody asked for it: Upgrade is not passed on (RFC 9110 §7.8).
    101: "switches to another protocol: its operator has to check SEED_OAUTH_MCP_SERVER",
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECTS),
}


class ReverseProxy:
    """An endpoint that passes requests with a valid access token to the MCP server, and its answers back.

    The server learns who the client is from header fields that no client can set: `X-Seed-OAuth-Subject`,
    `-Email`, `-Name`, `-Groups`, `-Tenant`, `-Client-Id`, `-Scope` and `-IdP-Token`. In their values, `%` and all that
    is not visible ASCII is percent-encoded UTF-8; in a group a comma is, too, because commas separate the groups. The
    server never sees the client's own access token.
    """

    def __init__(
        self,
        mcp_server: str,
        guard: Guard,
        *,
        path: str,
        host: str = "",
        issuer: str,
        timeout: float,
        body_limit: int,
        send_token: bool,
        origins: Sequence[str] = ("*",),
        spans: ClientSpans | None = None,
    ) -> None:
        """Pass requests to the URL `mcp_server`, which has to begin its answer within `timeout` seconds.

        `path` is that of the protected resource below the issuer, or on another `host`.
        `body_limit` is in bytes; `send_token` also passes the identity provider's access token. `origins` are the web
        origins whose scripts may send requests, besides those on loopback; `*` for all. With `spans` there is a span of
        each request to the MCP server, which is told its trace instead of the client's.
        """
        self.path = path
        self.host = host
        self.origins = origins
        self._spans = spans
        self._not_passed_on = _NOT_PASSED_ON | (TRACE_FIELDS if spans else frozenset())
        public = urlsplit(issuer)
        self._issuer = issuer
        self.circuit = circuit_of(mcp_server)
        self._guard = guard
        self._body_limit = min(body_limit, LARGEST) if guard.reads_bodies else body_limit
        self._answer_within = timeout
        self._sends_token = send_token
        url = urlsplit(mcp_server)
        self._target = url.path or "/"
        self._set_here = [
            (b"Host", url.netloc.encode()),
            (b"X-Forwarded-Host", (host or public.netloc).encode()),
            (b"X-Forwarded-Proto", public.scheme.encode()),
        ]
        self._connections = ConnectionPool(
            mcp_server, connect_timeout=min(_CONNECT_TIMEOUT, timeout), keepalive=_KEEPALIVE
        )

    async def __call__(self, request: Request) -> Answer:
        """The MCP server's answer, as soon as it has begun.

        Raises:
            OAuthError: the token is not valid here, the body is too large, or there is no answer.
            ClientDisconnect: the client disconnected first; the request to the MCP server is cancelled, too.
        """
        self._check_origin(request.headers.get("origin"))
        token = await self._guard.check(request)
        client = RequestStream(request, self._body_limit)
        tool_lists = await self._guard.check_operations(request, token, client) if self._guard.reads_bodies else None
        await client.begin()
        exchange = await self._ask(request, token, client, tool_lists)
        try:
            answer = self._passed_back(exchange, token, request, tool_lists)
            return await self._guard.allowed(request, token, answer)
        except BaseException:
            exchange.close()
            raise

    async def aclose(self) -> None:
        """Close the connections to the server."""
        await self._connections.aclose()

    def _check_origin(self, origin: str | None) -> None:
        # MCP Transports, "Security Warning": a MUST. The MCP server does not see Origin: it was checked here.
        if origin is None or "*" in self.origins or origin in self.origins or LOOPBACK_ORIGIN.fullmatch(origin):
            return
        raise OAuthError(
            ResourceOutcome.FORBIDDEN_ORIGIN,
            "scripts of this origin may not call the MCP server: its operator can add it to SEED_OAUTH_ALLOWED_ORIGINS",
        )

    async def _ask(
        self, request: Request, token: VerifiedToken, client: RequestStream, tool_lists: ToolLists | None
    ) -> Exchange:
        fields = [*self._set_here, *self._passed_on(request, tool_lists), *self._added(request, token)]
        if self._spans is None:
            return await self._send(request, fields, client)
        with self._spans.request(request.method) as span:
            fields += [(name.encode(), value.encode()) for name, value in span.headers.items()]
            exchange = await self._send(request, fields, client)
            span.answered(exchange.status)
            return exchange

    async def _send(self, request: Request, fields: Headers, client: RequestStream) -> Exchange:
        framing, body = client.framed()
        head = self._head(request, [*fields, *framing])
        while True:
            try:
                exchange = await self.circuit.send(self._connections.exchange)
            except OSError as error:
                raise _unreachable() from error
            exchange.run(client.leaves())
            exchange.send(head, body)
            try:
                await exchange.head(self._answer_within)
            except BrokenConnectionError as broken:
                # RFC 9112 §9.3.1: the server may have closed the connection before it saw the request.
                if exchange.is_first or request.method not in _IDEMPOTENT or client.sends_body:
                    raise _unreachable() from broken
            except TimeoutError as late:
                raise OAuthError(
                    ResourceOutcome.MCP_SERVER_TIMEOUT, "the MCP server did not answer in time: try again"
                ) from late
            except InvalidResponseError as invalid:
                raise _invalid(
                    "did not send a valid HTTP response: its operator has to check SEED_OAUTH_MCP_SERVER"
                ) from invalid
            else:
                return exchange

    def _passed_back(
        self, exchange: Exchange, token: VerifiedToken, request: Request, tool_lists: ToolLists | None
    ) -> ProxiedAnswer:
        if problem := _PROBLEMS.get(exchange.status):
            raise _invalid(problem)
        return ProxiedAnswer(exchange, self._guard, token, request, tool_lists=tool_lists)

    def _head(self, request: Request, fields: Headers) -> bytes:
        query = quote(request.scope["query_string"], safe=VISIBLE)
        target = f"{self._target}?{query}" if query else self._target
        lines = [f"{request.method} {target} HTTP/1.1".encode(), *(b"%b: %b" % field for field in fields)]
        head = b"\r\n".join([*lines, b"", b""])
        if not head.count(b"\r") == head.count(b"\n") == len(lines) + 1:
            # Not every ASGI server makes sure, and the rest would be another header field, or another request.
            raise MalformedRequestError("a header field must be one line")
        return head

    def _passed_on(self, request: Request, tool_lists: ToolLists | None) -> Headers:
        fields = uncompressed(request.headers.raw) if tool_lists else request.headers.raw
        names = self._not_passed_on | named_by_connection(fields)
        return without_identity(fields, names, (_FORWARDED_PREFIX,))

    def _added(self, request: Request, token: VerifiedToken) -> Headers:
        added = {
            "X-Forwarded-For": request.client.host if request.client else None,
            **identity_headers(token, self._issuer, send_token=self._sends_token),
        }
        return [(name.encode(), value.encode()) for name, value in added.items() if value]


def _unreachable() -> OAuthError:
    return OAuthError(ResourceOutcome.MCP_SERVER_UNREACHABLE, "the MCP server cannot be reached: try again")


def _invalid(problem: str) -> OAuthError:
    return OAuthError(ResourceOutcome.MCP_SERVER_INVALID_RESPONSE, f"the MCP server {problem}")
