"""A front door on a real socket, and clients that can misbehave there as no library would let them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import anyio
import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth import Pipeline
from seed_oauth.server.connection_limits import Limits
from seed_oauth.server.connections import Connections
from seed_oauth.server.listener import Listener, listen
from tests.harness import TOKENS, FrontDoor, RelayDoor, code_request
from tests.integration.real_parts import eventually

ROOMY = Limits(connections=100)


@dataclass(frozen=True)
class Seen:
    """One answer, as its client saw it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        """As the table of faults has it."""
        error = json.loads(self.body).get("error") if self.body.startswith(b"{") else None
        later = self.headers.get("retry-after")
        return f"{self.status}{f' `{error}`' if error else ''}{f', `Retry-After: {later}`' if later else ''}"


@dataclass
class RawClient:
    """A connection whose bytes a test writes and reads itself."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> Seen:
        """The next answer, which must have a length."""
        status, *fields = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in fields)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Seen(int(status.split()[1]), headers, body)

    async def end(self) -> bytes:
        """What comes until the server has closed the connection, or reset it."""
        rest = b""
        with suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                rest += piece
        return rest

    async def sees_the_end(self) -> str:
        """That nothing else comes, as the table of faults has it."""
        assert await self.end() == b""
        return "the connection closes"

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Idp:
    """An identity provider that answers when it may."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    requests: int = 0

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.requests += 1
        self.asked.set()
        await self.may_answer.wait()
        return httpx.Response(200, json=TOKENS)


@dataclass
class Served:
    """A door, its listener, and the clients that have come to it."""

    door: FrontDoor
    listener: Listener
    idp: Idp
    clients: list[RawClient] = field(default_factory=list)

    @property
    def connections(self) -> Connections:
        return connections_of(self.listener)

    async def connect(self, *, reads: bool = True) -> RawClient:
        self.clients.append(await connect(self.listener, reads=reads))
        return self.clients[-1]

    async def is_well(self) -> None:
        """A login's step is answered on a new connection, and nothing is left of the clients before it."""
        for client in self.clients:
            client.leave()
        self.idp.may_answer.set()

        async def nothing_is_left() -> bool:
            state = self.connections
            return not (state.connections or state.awaited or state.tasks)

        await eventually(nothing_is_left)
        client = await self.connect()
        await client.send(token_request())
        assert (await client.answer()).status == 200
        client.leave()


def connections_of(listener: Listener) -> Connections:
    assert isinstance(listener.server_state, Connections)
    return listener.server_state


async def connect(listener: Listener, *, reads: bool = True) -> RawClient:
    """One more client; one that does not read takes next to nothing of what is sent."""
    connecting = socket.socket()
    connecting.setblocking(False)
    if not reads:
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", httpx.URL(listener.url).port))
    client = RawClient(*await asyncio.open_connection(sock=connecting))
    if not reads:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
    return client


@asynccontextmanager
async def served(app: ASGIApp, limits: Limits = ROOMY, pipeline: Pipeline | None = None) -> AsyncIterator[Listener]:
    """An app on a real socket; its lifespan is somebody else's."""

    async def requests_only(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    with listen("127.0.0.1", 0, "PORT") as listening:
        # Little is on its way to a client that does not read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listener = Listener(requests_only, listening, drain=0, limits=limits, pipeline=pipeline)
        running = asyncio.create_task(listener.run_until_stopped())
        try:
            yield listener
        finally:
            listener.should_exit = True
            await running


@asynccontextmanager
async def served_door(limits: Limits = ROOMY, **door: Any) -> AsyncIterator[Served]:
    """The front door in the relay flow, before an identity provider that answers when it may."""
    idp = Idp()
    async with RelayDoor(idp=idp, **door) as front_door, served(front_door.app, limits) as listener:
        at_door = Served(front_door, listener, idp)
        with anyio.fail_after(60):
            yield at_door
        for client in at_door.clients:
            client.leave()


def token_request(**changes: str | None) -> bytes:
    """A whole token request."""
    body = urlencode(code_request(**changes)).encode()
    return b"%sContent-Length: %d\r\n\r\n%s" % (FORM_HEAD, len(body), body)


FORM_HEAD = b"POST /oauth/token HTTP/1.1\r\nHost: door\r\nContent-Type: application/x-www-form-urlencoded\r\n"
