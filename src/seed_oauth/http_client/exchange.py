"""One request to an HTTP/1.1 server and its response, both streamed, on a connection that others use before and after.

httptools parses. This is what a reverse proxy needs of an HTTP client and no more, because a whole one costs several
times as much CPU as the rest of a proxied request (docs/explanation/decisions.md).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import cast

import httptools

Headers = list[tuple[bytes, bytes]]
"""Names and values of header fields."""

LARGEST_HEAD = 64 * 1024
"""Bytes that a server may send besides the body, such as header fields, before the next piece of the body."""

MOST_BUFFERED = 64 * 1024
"""Bytes of the body that wait here until the connection is no longer read."""

_OK = 200
_SWITCHING_PROTOCOLS = 101

_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class InvalidResponseError(Exception):
    """The response is not HTTP/1.1, or its head is too large."""


class BrokenConnectionError(ConnectionError):
    """The connection ended before the response did."""


class Connection(asyncio.Protocol):
    """A connection to a server. `ConnectionPool` opens it, and keeps it between two exchanges."""

    __slots__ = ("_is_paused", "_on_free", "_writable", "exchange", "transport")  # there may be thousands

    transport: asyncio.Transport

    def __init__(self, on_free: "Callable[[Connection], None]") -> None:
        """`on_free` is called when another exchange can have the connection."""
        self.exchange: Exchange | None = None
        self._on_free = on_free
        self._is_paused = False
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.transport.abort()  # nobody has asked
        else:
            self.exchange.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        if self.exchange is not None:
            self.exchange.lost(exc)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def drain(self) -> None:
        """Wait until the server has taken most of what was written."""
        if self._writable is not None:
            await self._writable

    def pause_reading(self) -> None:
        """Have the server wait."""
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def leave(self, *, is_reusable: bool) -> None:
        """End the exchange, and close the connection unless another one can have it."""
        self.exchange = None
        if not is_reusable:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.resume_reading()
            self._on_free(self)


class Exchange:
    """A request and its response. Whoever begins one closes it."""

    __slots__ = (
        "_beside",
        "_besides_body",
        "_buffered",
        "_chunks",
        "_connection",
        "_failure",
        "_is_received",
        "_is_reusable",
        "_parser",
        "_upload",
        "_waiter",
        "fields",
        "is_first",
        "status",
    )

    def __init__(self, connection: Connection, *, is_first: bool) -> None:
        """`connection` has no exchange now, and had none before if this `is_first`."""
        self.is_first = is_first
        self.status = 0
        self.fields: Headers = []
        """The header fields of the response, with their names as they were sent."""
        self._connection = connection
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._besides_body = 0
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._is_received = False
        self._is_reusable = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._upload: asyncio.Task[None] | None = None
        connection.exchange = self

    @property
    def is_complete(self) -> bool:
        """Whether the whole body has been read."""
        return self._is_received and not self._chunks

    def send(self, head: bytes, body: bytes | AsyncIterator[bytes]) -> None:
        """Send the request. `head` says how the body is framed, and its pieces are sent as they are."""
        if isinstance(body, bytes):
            self._connection.transport.write(head + body)
        else:
            self._connection.transport.write(head)
            self._upload = self.run(self._send_pieces(body))

    async def head(self, within: float) -> None:
        """Wait for the status and the header fields, at most `within` seconds. The exchange is closed if it raises.

        Raises:
            TimeoutError: they did not come in time.
            BrokenConnectionError: the connection ended first.
            InvalidResponseError: what came is not HTTP.
            Exception: what `fail` was called with, or what was raised by the body of the request or beside it.
        """
        timer = asyncio.get_running_loop().call_later(within, self.fail, TimeoutError())
        try:
            while not self.status:
                await self._news()
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()

    async def chunk(self) -> bytes:
        """What has come of the body, and nothing at its end. It raises what `head` raises."""
        while not self._chunks and not self._is_received:
            await self._news()
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        self._connection.resume_reading()
        return chunk

    def fail(self, failure: Exception) -> None:
        """Raise `failure` to who waits for the response, unless all of it is there."""
        if not self._is_received and self._failure is None:
            self._failure = failure
            self._tell()

    def run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` until the exchange is closed. If it fails, so does the exchange."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._note_end)
        self._beside.append(task)
        return task

    def end(self) -> None:
        """End the response now, as if the server had."""
        self._chunks.clear()
        self._is_received, self._is_reusable = True, False
        self._tell()

    def close(self) -> None:
        """Give the connection back, or close it if either side has something left to send."""
        if self._upload is not None and not self._upload.done():
            self._is_reusable = False
        for task in self._beside:
            task.cancel()
        self._parser = None  # each refers to the other
        self._connection.leave(is_reusable=self._is_received and self._is_reusable)

    def feed(self, data: bytes) -> None:
        """Parse what was received."""
        assert self._parser is not None  # noqa: S101 - not closed
        self._besides_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_reusable = False
        except httptools.HttpParserError:
            self.fail(InvalidResponseError())
        if self._besides_body > LARGEST_HEAD:
            self.fail(InvalidResponseError())
        if self._buffered > MOST_BUFFERED:
            self._connection.pause_reading()
        self._tell()

    def lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self._is_reusable = False
        if self.status and error is None and not any(name.lower() in _LENGTHS for name, _ in self.fields):
            self._is_received = True  # RFC 9112 §6.3: the body ends with the connection
        self.fail(BrokenConnectionError())
        self._tell()

    def on_message_begin(self) -> None:
        """A response begins: after the last one, that of no request."""
        self._is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer, which is not passed on (RFC 9110 §6.5.1)."""
        if not self.status:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of the response, or of one that precedes it (RFC 9110 §15.2)."""
        assert self._parser is not None  # noqa: S101 - it calls this
        status = self._parser.get_status_code()
        if status >= _OK or status == _SWITCHING_PROTOCOLS:
            self.status = self.status or status
        else:
            self.fields.clear()

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._besides_body = 0
        if not self._is_received:
            self._chunks.append(chunk)
            self._buffered += len(chunk)

    def on_message_complete(self) -> None:
        """The end of the response, or of one that precedes it."""
        assert self._parser is not None  # noqa: S101 - it calls this
        if self.status and not self._is_received:
            self._is_received, self._is_reusable = True, self._parser.should_keep_alive()

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _news(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def _send_pieces(self, body: AsyncIterator[bytes]) -> None:
        async for piece in body:
            self._connection.transport.write(piece)
            await self._connection.drain()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(failure := task.exception(), Exception):
            self.fail(failure)
