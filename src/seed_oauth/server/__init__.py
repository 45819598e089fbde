"""The server of `seed-oauth serve`: the front door on one listener, the metrics on another, one loop."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn, TypeVar

import uvicorn
from starlette.types import ASGIApp

from seed_oauth.app import create_app
from seed_oauth.http.scope_keys import DRAINING
from seed_oauth.server.connection_limits import Limits
from seed_oauth.server.connections import Connection, Connections
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.telemetry import Pipeline, create_metrics_app

DRAIN = 30
"""Seconds that requests under way have to finish after SIGTERM."""

MOST_CONNECTIONS = 4096
"""Open at once at a front door; each takes some 10 KB."""

METRICS_CONNECTIONS = 64
"""Open at once at a metrics listener: a handful of scrapers, with one or two each."""

OTHER_FILES = 128
"""File descriptors for what is no connection of the front door: the metrics listener, the store, pipes, libraries."""

_FEWEST_CONNECTIONS = 16
_BACKLOG = 2048
_OBJECTS_BEFORE_COLLECTION = 10_000

Result = TypeVar("Result")


class Listener(uvicorn.Server):
    """One uvicorn server among several in a loop: whoever runs it stops it, signals do not."""

    def __init__(
        self, app: ASGIApp, listening: socket.socket, drain: int = DRAIN, limits: Limits | None = None
    ) -> None:
        """`drain` is how many seconds requests under way have to finish once it is to stop.

        `limits` are those of its connections; by default as many may be open as there are file descriptors for.
        """
        limits = limits or Limits(connections=most_connections())
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle),
            timeout_graceful_shutdown=drain,
        )
        super().__init__(config)
        if not drain:
            limits = replace(limits, farewell=0)
        self.server_state = self._connections = Connections(limits)
        self._listening = listening

    @property
    def url(self) -> str:
        """The base URL it answers at."""
        host, port = self._listening.getsockname()[:2]
        return base_url(host, port)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until `should_exit` is set."""
        watching = asyncio.create_task(self._connections.watch())
        try:
            await self.serve(sockets=[self._listening])
        finally:
            watching.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        self.lifespan.state[DRAINING] = self._connections.draining
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and let requests under way finish."""
        self._connections.draining.set()
        await super().shutdown(sockets)


def base_url(host: str, port: int) -> str:
    """The base URL of a listener at this address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        SettingsError: it cannot be had; names `setting`, the one to change.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off for the connections.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as failure:
        listening.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({failure.strerror}): set {PREFIX}{setting} to a free port, "
            "or stop what is running there"
        ) from None
    listening.setblocking(False)
    return listening


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        SettingsError: a port is taken, or metrics cannot be pushed as wanted; then nothing was opened.
    """
    pipeline = Pipeline()
    with (
        listen(settings.host, settings.port, "PORT") as public,
        listen(settings.metrics_host, settings.metrics_port, "METRICS_PORT") as private,
    ):
        front_door = Listener(create_app(settings, pipeline=pipeline), public)
        metrics = metrics_listener(pipeline, private)
        await run_together(front_door, metrics)
        pipeline.shutdown()


def metrics_listener(pipeline: Pipeline, listening: socket.socket) -> Listener:
    """The listener of a pipeline's metrics; scrapers that are slow take few descriptors from the front door."""
    limits = Limits(connections=METRICS_CONNECTIONS)
    return Listener(create_metrics_app(pipeline.registry), listening, limits=limits)


def most_connections() -> int:
    """How many connections a front door may have here, once this process may open as many files as it is let.

    Each connection needs a second descriptor, for who is asked behind it.
    """
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return MOST_CONNECTIONS
    given, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that it has no limit, and yet grants no more than some 10,000.
    most_files = 2 * MOST_CONNECTIONS + OTHER_FILES if allowed == resource.RLIM_INFINITY else allowed
    if given != resource.RLIM_INFINITY and given < most_files:
        # What a shell gives by default is for programs that use select().
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, allowed))
    return max(_FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, (most_files - OTHER_FILES) // 2))


async def run_together(front_door: Listener, *others: Listener) -> None:
    """Run the listeners until SIGINT or SIGTERM; the others outlive the front door's last request."""

    def stop(number: int, _: FrameType | None) -> None:
        if front_door.should_exit:
            end_at_once(number)
        front_door.should_exit = True

    _spare_the_garbage_collector()
    with on_signals(stop):
        async with asyncio.TaskGroup() as group:
            for other in others:
                group.create_task(other.run_until_stopped())
            await front_door.run_until_stopped()
            for other in others:
                other.should_exit = True


def end_at_once(number: int) -> NoReturn:
    """End this process as the signal would, also where it is the first of a container and signals do nothing."""
    os._exit(128 + number)


def _spare_the_garbage_collector() -> None:
    """Have it look for garbage seldom, and never among the modules, which stay.

    A request leaves no cycle behind. But at its usual threshold of 700 objects Python looks for some whenever a few
    exchanges are under way at once, and every so often through everything there is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)


@contextmanager
def on_signals(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so, as long as it lasts."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in a loop of its own, uvloop's where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - Windows has none

        loop_factory = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    # Shells start background jobs with SIGINT ignored; whoever sends it to this process means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Whoever stops it politely is treated as one who presses Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(work)
