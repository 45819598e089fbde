"""The reverse proxy in front of the MCP server: requests with a valid access token pass, unbuffered both ways."""

import asyncio
import re
from collections.abc import Collection
from urllib.parse import quote, urlsplit

import aiohttp
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from seed_oauth.http.answer import Answer
from seed_oauth.http.cors import LOOPBACK_ORIGIN
from seed_oauth.http.scope_keys import DRAINING, HALF_CLOSED
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.headers import VISIBLE, Headers, identity_headers, spelling, without_identity
from seed_oauth.resource_server.request_stream import RequestStream, listens

METHODS = ("GET", "POST", "DELETE")
"""The methods of Streamable HTTP (MCP Transports)."""

_CONNECT_TIMEOUT = 5.0  # seconds; the MCP server is nearby
_KEEPALIVE = 4.0  # seconds an idle connection is kept: uvicorn and Node close theirs after five

# RFC 9110 §7.6.1, and the fields that RFC 2616 §13.5.1 lists in addition.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer trailers "
    b"transfer-encoding upgrade".split()
)

# Fields that servers trust a proxy to set, and those that concern only the connection to this server.
_NOT_PASSED_ON = _HOP_BY_HOP | {b"host", b"expect", b"forwarded", b"x-real-ip", b"proxy", b"origin"}
_FORWARDED_PREFIX = b"x-forwarded-"

# Cookies of this origin include remembered consents, and MCP uses none.
_COOKIES = frozenset({b"cookie", b"set-cookie"})

# This server sets them itself.
_SET_HERE = frozenset({b"date", b"server"})
_CORS_PREFIX = b"access-control-"

_REDIRECTS = "redirects: its operator has to set SEED_OAUTH_MCP_SERVER to the URL that answers"
_PROBLEMS = {
    # Nobody asked for it: Upgrade is not passed on (RFC 9110 §7.8).
    101: "switches to another protocol: its operator has to check SEED_OAUTH_MCP_SERVER",
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECTS),
}
_UNAUTHORIZED = 401

_END: Message = {"type": "http.response.body", "body": b""}


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
        issuer: str,
        timeout: float,
        body_limit: int,
        send_token: bool,
        origins: Collection[str] = ("*",),
    ) -> None:
        """Pass requests to the URL `mcp_server`, which has to begin its answer within `timeout` seconds.

        `body_limit` is in bytes; `send_token` also passes the identity provider's access token. `origins` are the web
        origins whose scripts may send requests, besides those on loopback; `*` for all.
        """
        self._origins = origins
        public = urlsplit(issuer)
        self._issuer = issuer
        self._mcp_server = mcp_server
        self._guard = guard
        self._body_limit = body_limit
        self._answer_within = timeout
        self._sends_token = send_token
        self._forwarded = {"X-Forwarded-Host": public.netloc, "X-Forwarded-Proto": public.scheme}
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, request: Request) -> Answer:
        """The MCP server's answer, as soon as it has begun.

        Raises:
            OAuthError: the token is not valid here, the body is too large, or there is no answer.
            ClientDisconnect: the client disconnected first; the request to the MCP server is cancelled, too.
        """
        self._check_origin(request.headers.get("origin"))
        token = await self._guard.check(request)
        client = RequestStream(request, self._body_limit)
        leaving = asyncio.create_task(client.leaves())
        asking = asyncio.create_task(self._ask(request, token, client))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                answer = _Streamed(asking.result(), self._guard, token, leaving, request)
                return Answer(ResourceOutcome.ALLOWED, answer)
        except BaseException:
            await _give_up(asking, leaving)
            raise
        await _give_up(asking, leaving)
        raise ClientDisconnect

    async def aclose(self) -> None:
        """Close the connections to the server."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _check_origin(self, origin: str | None) -> None:
        # MCP Transports, "Security Warning": a MUST. The MCP server does not see Origin: it was checked here.
        if origin is None or "*" in self._origins or origin in self._origins or LOOPBACK_ORIGIN.fullmatch(origin):
            return
        raise OAuthError(
            ResourceOutcome.FORBIDDEN_ORIGIN,
            "scripts of this origin may not call the MCP server: its operator can add it to SEED_OAUTH_ALLOWED_ORIGINS",
        )

    async def _ask(self, request: Request, token: VerifiedToken, client: RequestStream) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = _session()
        query = quote(request.scope["query_string"], safe=VISIBLE)
        try:
            async with asyncio.timeout(self._answer_within):
                answer = await self._session.request(
                    request.method,
                    URL(f"{self._mcp_server}?{query}" if query else self._mcp_server, encoded=True),
                    headers=[*self._passed_on(request), *self._added(request, token).items()],
                    skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                    data=client.body() if client.sends_body else None,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise client.failure or _failure(error) from error
        if problem := _PROBLEMS.get(answer.status):
            answer.close()
            raise OAuthError(ResourceOutcome.MCP_SERVER_INVALID_RESPONSE, f"the MCP server {problem}")
        return answer

    def _passed_on(self, request: Request) -> list[tuple[str, str]]:
        headers = request.headers.raw
        names = _NOT_PASSED_ON | _COOKIES | _named_by_connection(headers)
        kept = without_identity(headers, names, (_FORWARDED_PREFIX,))
        return [(name.decode("ascii"), value.decode(errors="replace")) for name, value in kept]

    def _added(self, request: Request, token: VerifiedToken) -> dict[str, str]:
        added = {
            "X-Forwarded-For": request.client.host if request.client else None,
            **self._forwarded,
            **identity_headers(token, self._issuer, send_token=self._sends_token),
        }
        return {name: value for name, value in added.items() if value}


class _Streamed(Response):
    """The MCP server's answer, each chunk as it arrives; cancelled when the client disconnects.

    An event stream ends when the token is revoked. One that a client opened to listen also ends when the token expires,
    and when this server stops: the client reconnects, and need not be waited for. One that answers a request goes on.
    """

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        guard: Guard,
        token: VerifiedToken,
        leaving: "asyncio.Task[None]",
        request: Request,
    ) -> None:
        super().__init__(status_code=answer.status)
        self.raw_headers = _passed_back(answer)
        if answer.status == _UNAUTHORIZED:
            # Where to get a token is for this server to say, whatever the MCP server calls itself.
            self.raw_headers.append((b"www-authenticate", guard.challenge("invalid_token").encode()))
        self._answer = answer
        self._leaving = leaving
        self._guard = guard
        self._token = token
        self._listens = listens(request.scope)
        self._stopping: asyncio.Event | None = request.scope.get("state", {}).get(DRAINING) if self._listens else None
        self._is_event_stream = answer.content_type == "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        if not self._is_event_stream:
            await self._stream_until(scope, send, self._leaving)
            return
        void = asyncio.Event()
        with self._guard.tokens.watching(self._token, void.set, until_expiry=self._listens):
            ends = [asyncio.create_task(_is_set(event)) for event in (void, self._stopping) if event]
            await self._stream_until(scope, send, self._leaving, *ends)

    async def _stream_until(self, scope: Scope, send: Send, *ends: "asyncio.Task[None]") -> None:
        has_left = False
        streaming = asyncio.create_task(self._stream(send))
        try:
            await asyncio.wait({streaming, *ends}, return_when=asyncio.FIRST_COMPLETED)
            has_left = self._leaving.done()
        finally:
            await _cancel(streaming, *ends)
            # After the last byte the connection is already back in the pool, and this does nothing.
            self._answer.close()
        if not streaming.cancelled():
            streaming.result()
        elif has_left:
            scope.get(HALF_CLOSED, _nothing)()
        elif self._is_event_stream:
            await send(_END)

    async def _stream(self, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        try:
            async for chunk in self._answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except aiohttp.ClientError:
            # The client must not mistake this for the whole answer: this server breaks its connection, too.
            structlog.get_logger("seed_oauth").warning("the MCP server broke off its answer", endpoint="resource")
            return
        await send(_END)


def _nothing() -> None:
    pass


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Streams may last for ever, and each takes a connection.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE, resolver=aiohttp.ThreadedResolver()),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


def _passed_back(answer: aiohttp.ClientResponse) -> Headers:
    unwanted = _HOP_BY_HOP | _COOKIES | _SET_HERE | _named_by_connection(answer.raw_headers)
    if answer.status == _UNAUTHORIZED:
        unwanted |= {b"www-authenticate"}
    kept = without_identity(answer.raw_headers, unwanted, (_CORS_PREFIX,))
    return [(name.lower(), value) for name, value in kept]


def _named_by_connection(headers: "Headers | aiohttp.typedefs.RawHeaders") -> frozenset[bytes]:
    """The header fields that Connection lists: they are for the next hop only (RFC 9110 §7.6.1)."""
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    return frozenset(spelling(name) for name in re.split(rb"[\s,]+", named))


def _failure(error: aiohttp.ClientError | TimeoutError) -> OAuthError:
    if isinstance(error, aiohttp.ClientConnectionError):
        return OAuthError(ResourceOutcome.MCP_SERVER_UNREACHABLE, "the MCP server cannot be reached: try again")
    if isinstance(error, TimeoutError):
        return OAuthError(ResourceOutcome.MCP_SERVER_TIMEOUT, "the MCP server did not answer in time: try again")
    return OAuthError(
        ResourceOutcome.MCP_SERVER_INVALID_RESPONSE,
        "the MCP server did not send a valid HTTP response: its operator has to check SEED_OAUTH_MCP_SERVER",
    )


async def _is_set(event: asyncio.Event) -> None:
    await event.wait()


async def _give_up(asking: "asyncio.Task[aiohttp.ClientResponse]", leaving: "asyncio.Task[None]") -> None:
    await _cancel(asking, leaving)
    if not asking.cancelled() and asking.exception() is None:
        asking.result().close()


async def _cancel(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
