"""The MCP server's answer on its way to the client: each chunk as it arrives, until either side ends it."""

import asyncio
import re

import aiohttp
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from seed_oauth.http.scope_keys import DRAINING, HALF_CLOSED
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.headers import Headers, spelling, without_identity
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
_SET_HERE = frozenset({b"date", b"server"})
_CORS_PREFIX = b"access-control-"

_UNAUTHORIZED = 401

_END: Message = {"type": "http.response.body", "body": b""}


class ProxiedAnswer(Response):
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
        *,
        tool_lists: ToolLists | None,
    ) -> None:
        super().__init__(status_code=answer.status)
        self.raw_headers = _passed_back(answer)
        if answer.status == _UNAUTHORIZED:
            # Where to get a token is for this server to say, whatever the MCP server calls itself.
            self.raw_headers.append((b"www-authenticate", guard.challenge("invalid_token").encode()))
        self._tool_lists = tool_lists
        self._answer = answer
        self._leaving = leaving
        self._guard = guard
        self._token = token
        self._listens = listens(request.scope)
        self._stopping: asyncio.Event | None = request.scope.get("state", {}).get(DRAINING) if self._listens else None
        self._is_event_stream = answer.content_type == "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        if self._tool_lists is not None:
            send = self._tool_lists.filtering(send)
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
            await cancelled(streaming, *ends)
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


def _passed_back(answer: aiohttp.ClientResponse) -> Headers:
    unwanted = HOP_BY_HOP | COOKIES | _SET_HERE | named_by_connection(answer.raw_headers)
    if answer.status == _UNAUTHORIZED:
        unwanted |= {b"www-authenticate"}
    kept = without_identity(answer.raw_headers, unwanted, (_CORS_PREFIX,))
    return [(name.lower(), value) for name, value in kept]


def named_by_connection(headers: "Headers | aiohttp.typedefs.RawHeaders") -> frozenset[bytes]:
    """The header fields that Connection lists: they are for the next hop only (RFC 9110 §7.6.1)."""
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    return frozenset(spelling(name) for name in re.split(rb"[\s,]+", named))


async def _is_set(event: asyncio.Event) -> None:
    await event.wait()


async def cancelled(*tasks: "asyncio.Task[object]") -> None:
    """Cancel the tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
