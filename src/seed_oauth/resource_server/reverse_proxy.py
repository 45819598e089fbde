"""The reverse proxy in front of the MCP server: requests with a valid access token pass, unbuffered both ways."""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import aiohttp
from starlette.requests import ClientDisconnect, Request
from yarl import URL

from seed_oauth.http.answer import Answer
from seed_oauth.http.cors import LOOPBACK_ORIGIN
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
    cancelled,
    named_by_connection,
)
from seed_oauth.resource_server.request_stream import RequestStream
from seed_oauth.resource_server.tool_lists import ToolLists, uncompressed
from seed_oauth.telemetry.client_spans import TRACE_FIELDS, ClientSpans

METHODS = ("GET", "POST", "DELETE")
"""The methods of Streamable HTTP (MCP Transports)."""

_CONNECT_TIMEOUT = 5.0  # seconds; the MCP server is nearby
_KEEPALIVE = 4.0  # seconds an idle connection is kept: uvicorn and Node close theirs after five

# Fields that servers trust a proxy to set, and those that concern only the connection to this server.
_NOT_PASSED_ON = HOP_BY_HOP | {b"host", b"expect", b"forwarded", b"x-real-ip", b"proxy", b"origin"}
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
        self._mcp_server = mcp_server
        self.circuit = circuit_of(mcp_server)
        self._guard = guard
        self._body_limit = min(body_limit, LARGEST) if guard.reads_bodies else body_limit
        self._answer_within = timeout
        self._sends_token = send_token
        self._forwarded = {"X-Forwarded-Host": host or public.netloc, "X-Forwarded-Proto": public.scheme}
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
        tool_lists = await self._guard.check_operations(request, token, client) if self._guard.reads_bodies else None
        leaving = asyncio.create_task(client.leaves())
        asking = asyncio.create_task(self._ask(request, token, client, tool_lists))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                answer = ProxiedAnswer(asking.result(), self._guard, token, leaving, request, tool_lists=tool_lists)
                return await self._guard.allowed(request, token, answer)
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
        if origin is None or "*" in self.origins or origin in self.origins or LOOPBACK_ORIGIN.fullmatch(origin):
            return
        raise OAuthError(
            ResourceOutcome.FORBIDDEN_ORIGIN,
            "scripts of this origin may not call the MCP server: its operator can add it to SEED_OAUTH_ALLOWED_ORIGINS",
        )

    async def _ask(
        self, request: Request, token: VerifiedToken, client: RequestStream, tool_lists: ToolLists | None
    ) -> aiohttp.ClientResponse:
        headers = [*self._passed_on(request, tool_lists), *self._added(request, token).items()]
        if self._spans is None:
            return await self._send(request, headers, client)
        with self._spans.request(request.method) as span:
            answer = await self._send(request, [*headers, *span.headers.items()], client)
            span.answered(answer.status)
            return answer

    async def _send(
        self, request: Request, headers: list[tuple[str, str]], client: RequestStream
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = _session()
        query = quote(request.scope["query_string"], safe=VISIBLE)
        try:
            async with asyncio.timeout(self._answer_within):
                answer = await self.circuit.send(
                    self._session.request,
                    request.method,
                    URL(f"{self._mcp_server}?{query}" if query else self._mcp_server, encoded=True),
                    headers=headers,
                    skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                    data=(client.whole or client.body()) if client.sends_body else None,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise client.failure or _failure(error) from error
        if problem := _PROBLEMS.get(answer.status):
            answer.close()
            raise OAuthError(ResourceOutcome.MCP_SERVER_INVALID_RESPONSE, f"the MCP server {problem}")
        return answer

    def _passed_on(self, request: Request, tool_lists: ToolLists | None) -> list[tuple[str, str]]:
        headers = uncompressed(request.headers.raw) if tool_lists else request.headers.raw
        names = self._not_passed_on | COOKIES | named_by_connection(headers)
        kept = without_identity(headers, names, (_FORWARDED_PREFIX,))
        return [(name.decode("ascii"), value.decode(errors="replace")) for name, value in kept]

    def _added(self, request: Request, token: VerifiedToken) -> dict[str, str]:
        added = {
            "X-Forwarded-For": request.client.host if request.client else None,
            **self._forwarded,
            **identity_headers(token, self._issuer, send_token=self._sends_token),
        }
        return {name: value for name, value in added.items() if value}


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Streams may last for ever, and each takes a connection.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE, resolver=aiohttp.ThreadedResolver()),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


def _failure(error: aiohttp.ClientError | TimeoutError) -> OAuthError:
    if isinstance(error, aiohttp.ClientConnectionError):
        return OAuthError(ResourceOutcome.MCP_SERVER_UNREACHABLE, "the MCP server cannot be reached: try again")
    if isinstance(error, TimeoutError):
        return OAuthError(ResourceOutcome.MCP_SERVER_TIMEOUT, "the MCP server did not answer in time: try again")
    return OAuthError(
        ResourceOutcome.MCP_SERVER_INVALID_RESPONSE,
        "the MCP server did not send a valid HTTP response: its operator has to check SEED_OAUTH_MCP_SERVER",
    )


async def _give_up(asking: "asyncio.Task[aiohttp.ClientResponse]", leaving: "asyncio.Task[None]") -> None:
    await cancelled(asking, leaving)
    if not asking.cancelled() and asking.exception() is None:
        asking.result().close()
