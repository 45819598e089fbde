"""An identity provider's token endpoint on a real socket, which behaves as badly as it is told to."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PROSE = "ORA-01017 of alice@corp"
"""What the identity provider says that is nobody's business."""

_BACKLOG = 1024  # many may come at once, when it comes back

TOKENS = {"access_token": "at-of-the-idp", "token_type": "Bearer", "expires_in": 300, "refresh_token": "rt-of-the-idp"}


class Connection:
    """One connection to the server."""

    def __init__(self, server: "FaultyServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Read the next request to its end: its body."""
        await self.first_byte()
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        body = await self._reader.readexactly(int(length.split(b":")[1]))
        self._server.requests.append(body)
        return body

    async def first_byte(self) -> None:
        """Wait until the next request begins to arrive."""
        await self._reader.readexactly(1)
        self._server.begun += 1

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        at_once = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self._writer.transport.abort()

    async def hang(self) -> None:
        await asyncio.Event().wait()


Manner = Callable[[Connection], Awaitable[None]]
"""What the server does with a connection, which is closed after it."""


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


GOOD = response(json.dumps(TOKENS).encode())


async def healthy(connection: Connection) -> None:
    """Answer one request after the other, over one connection."""
    while True:
        await connection.request()
        await connection.send(GOOD)


def answering(*parts: bytes) -> Manner:
    """Answer one request so, and close the connection."""

    async def manner(connection: Connection) -> None:
        await connection.request()
        for part in parts:
            await connection.send(part)

    return manner


@dataclass
class FaultyServer:
    """The server; it remembers what it has read."""

    manner: Manner = healthy
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    """The body of each request that was read to its end."""
    begun: int = 0
    """How many requests have begun to arrive."""
    connections: int = 0

    async def start(self) -> None:
        """Listen, at the port that it has had before."""
        self._open: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, ssl=self.tls, backlog=_BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection, and refuse new ones."""
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            await self.manner(Connection(self, reader, writer))
        writer.close()
        self._open.discard(task)


@asynccontextmanager
async def faulty_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultyServer]:
    """A server that does well, until its `manner` is changed."""
    server = FaultyServer(tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def refusing(server: FaultyServer) -> AsyncIterator[None]:
    """Nobody listens at its port."""
    await server.stop()
    yield
    await server.start()


@asynccontextmanager
async def blackholed(server: FaultyServer) -> AsyncIterator[None]:
    """Nobody answers at its port: to a listener whose backlog is full the system drops what wants to connect."""
    await server.stop()
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", server.port))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", server.port))
        yield
    await server.start()


@asynccontextmanager
async def certified(server: FaultyServer, certificate: ssl.SSLContext) -> AsyncIterator[None]:
    """It shows another certificate."""
    good, server.tls = server.tls, certificate
    await server.stop()
    await server.start()
    yield
    server.tls = good
    await server.stop()
    await server.start()


@asynccontextmanager
async def behaving(server: FaultyServer, manner: Manner) -> AsyncIterator[None]:
    """It does that with each connection."""
    server.manner = manner
    yield
    server.manner = healthy
