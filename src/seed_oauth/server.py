"""The server of `seed-oauth serve`: the front door on one listener, the metrics on another, one loop."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

from seed_oauth.app import create_app
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.telemetry import Pipeline, create_metrics_app

_BACKLOG = 2048
_OBJECTS_BEFORE_COLLECTION = 10_000

_DRAIN = 30  # seconds that requests under way have to finish after SIGTERM

Result = TypeVar("Result")


class Listener(uvicorn.Server):
    """One uvicorn server among several in a loop: whoever runs it stops it, signals do not."""

    def __init__(self, app: ASGIApp, listening: socket.socket, drain: int = _DRAIN) -> None:
        """`drain` is how many seconds requests under way have to finish once it is to stop."""
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=drain,
        )
        super().__init__(config)
        self._listening = listening

    @property
    def url(self) -> str:
        """The base URL it answers at."""
        host, port = self._listening.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until `should_exit` is set."""
        await self.serve(sockets=[self._listening])


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
        metrics = Listener(create_metrics_app(pipeline.registry), private)
        await run_together(front_door, metrics)
        pipeline.shutdown()


async def run_together(front_door: Listener, *others: Listener) -> None:
    """Run the listeners until SIGINT or SIGTERM; the others outlive the front door's last request."""
    _spare_the_garbage_collector()
    # The first signal lets requests under way finish; a second SIGINT does not wait for them.
    with on_signals(front_door.handle_exit):
        async with asyncio.TaskGroup() as group:
            for other in others:
                group.create_task(other.run_until_stopped())
            await front_door.run_until_stopped()
            for other in others:
                other.should_exit = True


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
