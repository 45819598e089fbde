"""Replicas of the front door, each a process of its own, behind a load balancer that knows nothing of sessions."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import anyio
import httpx

from tests.cli.test_cli import Server, free_port, serving

_CHECK_INTERVAL = 0.1  # seconds


@dataclass
class Replica:
    """One place among the replicas, filled by one process after another."""

    folder: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    server: Server | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        """Run it until it answers."""
        self.folder.mkdir(exist_ok=True)
        self.server = await self._stack.enter_async_context(serving(self.folder, self.environment, port=self.port))

    async def stop(self) -> int | None:
        """SIGTERM; its exit code, once it has ended."""
        assert self.server is not None
        process = self.server.process
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        await self.close()
        return process.returncode

    async def close(self) -> None:
        await self._stack.aclose()


@dataclass
class LoadBalancer:
    """Passes each connection to the next replica that is ready; on to another where one refuses it, as real ones do."""

    replicas: Sequence[Replica]
    port: int = field(default_factory=free_port)
    ready: set[int] = field(default_factory=set)
    _turns: "count[int]" = field(default_factory=count)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, and ask the replicas whether they are ready."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        checking = asyncio.create_task(self._keep_checking())
        try:
            yield
        finally:
            server.close()
            for task in (checking, *self._connections):
                task.cancel()
            await asyncio.gather(checking, *self._connections, return_exceptions=True)

    async def until_ready(self, replica: Replica) -> None:
        while replica.port not in self.ready:
            await anyio.sleep(_CHECK_INTERVAL)

    async def _keep_checking(self) -> None:
        async with httpx.AsyncClient(trust_env=False, headers={"Connection": "close"}) as http:
            while True:
                for replica in self.replicas:
                    await self._check(http, replica.port)
                await anyio.sleep(_CHECK_INTERVAL)

    async def _check(self, http: httpx.AsyncClient, port: int) -> None:
        self.ready.discard(port)
        with suppress(httpx.TransportError):
            if (await http.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                self.ready.add(port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            inner_reader, inner_writer = await self._connect()
        except ConnectionRefusedError:
            writer.close()
            return
        try:
            await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the next one that is ready, or else to whichever takes the connection."""
        turn = next(self._turns)
        in_turn = [self.replicas[(turn + place) % len(self.replicas)].port for place in range(len(self.replicas))]
        for port in sorted(in_turn, key=lambda port: port not in self.ready):
            with suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionRefusedError


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    # Whoever ends one direction ends both: what HTTP needs of a half-closed connection is tested elsewhere.
    writer.close()
