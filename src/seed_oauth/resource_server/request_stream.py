"""The client's end of a request that is passed on: its body as it comes, and the moment it goes away."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from seed_oauth.errors import OAuthError
from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.http.scope_keys import HALF_CLOSED
from seed_oauth.outcomes import ResourceOutcome


class RequestStream:
    """A client that sends, waits, listens, and may go away while it does."""

    def __init__(self, request: Request, limit: int) -> None:
        """`limit` is how many bytes of a body are passed on.

        Raises:
            MalformedRequestError: its length is no number.
            OAuthError: its length is over the limit.
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
        self._has_sent = asyncio.Event()
        if not self.sends_body:
            self._has_sent.set()

    async def body(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._has_sent.set()
                raise self._failed(ClientDisconnect())
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > self._limit:
                failure = _too_large(self._limit)
                # There may be no end to what comes; a length that was told has one, and the answer is safer read so.
                failure.headers = {"Connection": "close"}
                raise self._failed(failure)
            if chunk:
                yield chunk
        self._has_sent.set()

    async def leaves(self) -> None:
        """Return when the client has gone away.

        A client that has only shut its side down counts as gone, as it does for other proxies: otherwise streams
        would go on for those who have left.
        """
        await self._has_sent.wait()
        while not self.sends_body and (await self._receive()).get("more_body"):
            pass  # the pieces of a body that is empty
        if HALF_CLOSED not in self._scope:
            await self._receive()  # nothing but its leaving comes after the body

    def _failed(self, failure: Exception) -> Exception:
        self.failure = failure
        return failure


def _too_large(limit: int) -> OAuthError:
    return OAuthError(ResourceOutcome.BODY_TOO_LARGE, f"send at most {limit} bytes")
