"""The client's side of a proxied request: its body as it arrives, and the moment the client disconnects."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Scope

from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.http.scope_keys import HALF_CLOSED
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
        self.sends_body = int(length) > 0 or "transfer-encoding" in request.headers
        self.failure: Exception | None = None
        """Why the body ended early."""
        self._scope = request.scope
        self._receive = request.receive
        self._limit = limit
        self._size = 0
        self.whole: bytes | None = None
        """The body, once `read` has read it."""
        self._passed_on = False
        self._has_sent = asyncio.Event()
        if not self.sends_body:
            self._has_sent.set()

    async def read(self) -> bytes:
        """The whole body, which `body` does not have afterwards.

        Raises:
            OAuthError: it exceeds the limit.
            ClientDisconnect: the client disconnected before it was complete.
        """
        chunks, more = [], self.sends_body
        while more:
            chunk, more = await self._next()
            chunks.append(chunk)
        self.whole = b"".join(chunks)
        return self.whole

    async def receive_again(self) -> Message:
        """What an ASGI app receives: the body that was read, and after it what comes."""
        if self._passed_on or self.whole is None:
            return await self._receive()
        self._passed_on = True
        return {"type": "http.request", "body": self.whole, "more_body": False}

    async def body(self) -> AsyncIterator[bytes]:
        """The body, chunk by chunk."""
        more = True
        while more:
            chunk, more = await self._next()
            if chunk:
                yield chunk

    async def _next(self) -> tuple[bytes, bool]:
        """The next chunk, which may be empty, and whether there are more."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._has_sent.set()
            raise self._failed(ClientDisconnect())
        chunk, more = message.get("body", b""), message.get("more_body", False)
        self._size += len(chunk)
        if self._size > self._limit:
            # A chunked body may have no end, so the connection is closed. One with a length is read to its end.
            raise self._failed(_too_large(self._limit, {"Connection": "close"}))
        if not more:
            self._has_sent.set()
        return chunk, more

    async def leaves(self) -> None:
        """Return when the client has disconnected.

        A half-closed connection counts as disconnected, as it does for other proxies: otherwise streams would go on
        for clients that have left.
        """
        await self._has_sent.wait()
        while not self.sends_body and (await self._receive()).get("more_body"):
            pass  # empty chunks
        if HALF_CLOSED not in self._scope:
            await self._receive()  # after the body only a disconnect can come

    def _failed(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure


def _too_large(limit: int, headers: Mapping[str, str] | None = None) -> OAuthError:
    return OAuthError(ResourceOutcome.BODY_TOO_LARGE, f"send at most {limit} bytes", headers or {})


def listens(scope: Scope) -> bool:
    """Whether a client opens a stream to listen, and opens another one when it ends (MCP Transports).

    Until 2025-11-25 that is a GET. Since 2026-07-28 it is a POST, whose method is also in a header; a client that lies
    there only ends its own stream early.
    """
    return scope["method"] == "GET" or (b"mcp-method", b"subscriptions/listen") in scope["headers"]
