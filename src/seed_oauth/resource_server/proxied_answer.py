"""The MCP server's answer on its way to the client: each chunk as it arrives, until either side ends it."""

import asyncio
import re

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seed_oauth.http.scope_keys import DRAINING, HALF_CLOSED
from seed_oauth.http_client.exchange import BrokenConnectionError, Exchange, Headers, InvalidResponseError
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.headers import is_event_stream, spelling, without_identity
from seed_oauth.resource_server.request_stream import listens
from seed_oauth.resource_server.tool_lists import ToolLists

# RFC 9110 §7.6.1, and the fields that RFC 2616 §13.5.1 lists in addition.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer trailers "
    b"transfer-encoding upgrade".split()
)
"""Header fields that concern one connection only."""

COOKIES = frozenset({b"cookie", b"set-cookie"})
"""Cookies of this origin include remembered consents, and MCP uses none."""

# This server sets them itself.
_NOT_PASSED_BACK = HOP_BY_HOP | COOKIES | {b"date", b"server"}
_CORS_PREFIX = b"access-control-"

_UNAUTHORIZED = 401


class ProxiedAnswer(Response):
    """The MCP server's answer, each chunk as it arrives; cancelled when the client disconnects.

    An event stream ends when the token is revoked. One that a client opened to listen also ends when the token expires,
    and when this server stops: the client reconnects, and need not be waited for. One that answers a request goes on.
    """

    def __init__(
        self,
        exchange: Exchange,
        guard: Guard,
        token: VerifiedToken,
        request: Request,
        *,
        tool_lists: ToolLists | None,
    ) -> None:
        """`exchange` has the head of its response, and is closed when this has been sent."""
        super().__init__(status_code=exchange.status)
        self.raw_headers = _passed_back(exchange)
        if exchange.status == _UNAUTHORIZED:
            # Where to get a token is for this server to say, whatever the MCP server calls itself.
            self.raw_headers.append((b"www-authenticate", guard.challenge("invalid_token").encode()))
        self._exchange = exchange
        self._tool_lists = tool_lists
        self._guard = guard
        self._token = token
        self._listens = listens(request.scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        if self._tool_lists is not None:
            send = self._tool_lists.filtering(send)
        try:
            if is_event_stream(self.raw_headers):
                await self._stream_until_end(scope, send)
            else:
                await self._stream(send)
        except ClientDisconnect:
            scope.get(HALF_CLOSED, _nothing)()
        except (BrokenConnectionError, InvalidResponseError, OAuthError):
            # The client must not mistake this for the whole answer: this server breaks its connection, too.
            structlog.get_logger("seed_oauth").warning("the MCP server broke off its answer", endpoint="resource")
        finally:
            self._exchange.close()

    async def _stream_until_end(self, scope: Scope, send: Send) -> None:
        stopping: asyncio.Event | None = scope.get("state", {}).get(DRAINING)
        if stopping is not None and self._listens:
            self._exchange.run(_end_when(stopping, self._exchange))
        with self._guard.tokens.watching(self._token, self._exchange.end, until_expiry=self._listens):
            await self._stream(send)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        more = True
        while more:
            chunk = await self._exchange.chunk()
            more = not self._exchange.is_complete
            await send({"type": "http.response.body", "body": chunk, "more_body": more})


def _nothing() -> None:
    pass


def _passed_back(exchange: Exchange) -> Headers:
    unwanted = _NOT_PASSED_BACK | named_by_connection(exchange.fields)
    if exchange.status == _UNAUTHORIZED:
        unwanted |= {b"www-authenticate"}
    kept = without_identity(exchange.fields, unwanted, (_CORS_PREFIX,))
    return [(name.lower(), value) for name, value in kept]


def named_by_connection(fields: Headers) -> frozenset[bytes]:
    """The header fields that Connection lists: they are for the next hop only (RFC 9110 §7.6.1)."""
    named = [value for name, value in fields if name.lower() == b"connection"]
    return frozenset(spelling(name) for name in re.split(rb"[\s,]+", b",".join(named))) if named else frozenset()


async def _end_when(event: asyncio.Event, exchange: Exchange) -> None:
    await event.wait()
    exchange.end()
