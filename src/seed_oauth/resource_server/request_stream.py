"""The client's side of a proxied request: its body as it arrives, and the moment the client disconnects."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Scope

from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.http.scope_keys import HALF_CLOSED
from seed_oauth.http_client.exchange import Headers
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import OAuthError


class RequestStream:
    """A client that sends a body, waits for the answer, and may disconnect at any time."""

    def __init__(self, request: Request, limit: int) -> None:
        """`limit` is how many bytes of a body are passed on.

        Raises:
            MalformedRequestError: Content-Length is not a number.
            OAuthError: Content-Length exceeds the limit.
        """
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise MalformedRequestError("Content-Length must be a number")
        if int(length) > limit:
            raise _too_large(limit)
        self._length = int(length)
        self._is_chunked = "transfer-encoding" in request.headers
        self.sends_body = self._length > 0 or self._is_chunked
        self._scope = request.scope
        self._receive = request.receive
        self._limit = limit
        self._size = 0
        self.whole: bytes | None = None
        """The body, if `begin` or `read` have read all of it."""
        self._first = b""
        self._passed_on = False
        self._has_sent: asyncio.Event | None = None

    async def read(self) -> bytes:
        """The whole body, which `body` does not have afterwards.

        Raises:
            OAuthError: it exceeds the limit.
            ClientDisconnect: the client disconnected before it was complete.
        """
        if self.whole is None:
            self.whole = b"".join([chunk async for chunk in self.body()])
        return self.whole

    async def begin(self) -> None:
        """Wait for the beginning of the body, which often is all of it. It raises what `read` raises."""
        if self.whole is None and self.sends_body:
            self._first, more = await self._next()
            if more:
                self._has_sent = asyncio.Event()
            else:
                self.whole = self._first

    async def receive_again(self) -> Message:
        """What an ASGI app receives: the body that was read, and after it what comes."""
        if self._passed_on or self.whole is None:
            return await self._receive()
        self._passed_on = True
        return {"type": "http.request", "body": self.whole, "more_body": False}

    async def body(self) -> AsyncIterator[bytes]:
        """The body, chunk by chunk."""
        if self._first:
            yield self._first
        more = self.sends_body
        while more:
            chunk, more = await self._next()
            if chunk:
                yield chunk

    def framed(self) -> tuple[Headers, bytes | AsyncIterator[bytes]]:
        """The body to pass on, with the header field that says where it ends (RFC 9112 §6)."""
        if self.whole is None and self._is_chunked:
            return [(b"Transfer-Encoding", b"chunked")], _chunked(self.body())
        if self.whole is None and self.sends_body:
            return [(b"Content-Length", b"%d" % self._length)], self.body()
        body = self.whole or b""
        is_told = body or self._scope["method"] == "POST"  # RFC 9110 §8.6
        return [(b"Content-Length", b"%d" % len(body))] if is_told else [], body

    async def _next(self) -> tuple[bytes, bool]:
        """The next chunk, which may be empty, and whether there are more."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        self._size += len(chunk)
        if self._size > self._limit:
            # A chunked body may have no end, so the connection is closed. One with a length is read to its end.
            raise _too_large(self._limit, {"Connection": "close"})
        if not more and self._has_sent is not None:
            self._has_sent.set()
        return chunk, more

    async def leaves(self) -> None:
        """Raise ClientDisconnect when the client has disconnected.

        A half-closed connection counts as disconnected, as it does for other proxies: otherwise streams would go on
        for clients that have left.
        """
        if self._has_sent is not None:
            await self._has_sent.wait()
        while not self.sends_body and (await self._receive()).get("more_body"):
            pass  # empty chunks
        if HALF_CLOSED not in self._scope:
            await self._receive()  # after the body only a disconnect can come
        raise ClientDisconnect


async def _chunked(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def _too_large(limit: int, headers: Mapping[str, str] | None = None) -> OAuthError:
    return OAuthError(ResourceOutcome.BODY_TOO_LARGE, f"send at most {limit} bytes", headers or {})


def listens(scope: Scope) -> bool:
    """Whether a client opens a stream to listen, and opens another one when it ends (MCP Transports).

    Until 2025-11-25 that is a GET. Since 2026-07-28 it is a POST, whose method is also in a header; a client that lies
    there only ends its own stream early.
    """
    return scope["method"] == "GET" or (b"mcp-method", b"subscriptions/listen") in scope["headers"]
