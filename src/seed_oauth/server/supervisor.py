"""`seed-oauth serve --workers N`: worker processes that serve requests, and a supervisor that keeps their metrics.

The supervisor has the public socket, the metrics listener and the only metrics pipeline. Each worker inherits the
socket and the write end of a pipe, and writes its measurements to the pipe before it answers (`telemetry.forwarding`).
So one scrape covers all workers and is exact:

- the counters are in the supervisor, so they do not fall when a worker dies, and no sample exists twice;
- the measurements of a killed worker are still in its pipe;
- a scrape only reads pipes, so a worker that hangs cannot delay it; it no longer sends heartbeats, which
  `seed_oauth_worker_up` shows.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import FrameType

import orjson
import structlog

from seed_oauth.server.announcement import announce
from seed_oauth.server.fork_server import ForkedProcess, ForkServer
from seed_oauth.server.listener import listen, metrics_listener, public_socket, refuse_default_issuer
from seed_oauth.server.reload import Load, Reloads
from seed_oauth.server.service_manager import VARIABLES, notify
from seed_oauth.server.signals import end_at_once, on_signals
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.telemetry import Pipeline, logs
from seed_oauth.telemetry.forwarding import Replay

READ_INTERVAL = 0.05
"""Seconds between two reads of the pipes; a scrape reads them, too."""

HEARTBEAT_TIMEOUT = 3.0
"""Seconds without a heartbeat after which a worker counts as down; it sends one every second."""

_RESTART_DELAY = 1.0  # seconds, so that a worker that fails to start does not keep a processor busy


class Worker:
    """A worker, which is one process after another."""

    def __init__(self, number: int, settings: Settings, listening: socket.socket, fork_server: ForkServer) -> None:
        self.name = str(number)
        self._settings = settings
        self._listening = listening
        self._fork_server = fork_server
        self._process: ForkedProcess | None = None
        self._replay: Replay | None = None
        self._new_settings: asyncio.WriteTransport | None = None
        self._last_heartbeat = float("-inf")
        self._stopping = asyncio.Event()

    async def keep_running(self, pipeline: Pipeline) -> None:
        """Run a process until `stop`, and start another one if it ends or cannot be started."""
        log = structlog.get_logger("seed_oauth").bind(worker=self.name)
        while not self._stopping.is_set():
            try:
                await self._start(pipeline)
            except OSError as failure:
                # This host has no process or file descriptor left; the other workers continue.
                log.warning("worker cannot be started", reason=failure.strerror)
            else:
                status = await self._end()
                if not self._stopping.is_set():
                    log.warning("worker ended", status=status)
                    pipeline.telemetry.record_restart()
            if not self._stopping.is_set():
                await asyncio.sleep(_RESTART_DELAY)

    def use(self, settings: Settings) -> None:
        """Pass new settings on to the process, and start others with them."""
        self._settings = settings
        if self._new_settings is not None:
            self._new_settings.write(orjson.dumps(settings.as_environment()) + b"\n")

    def stop(self, number: int) -> None:
        """Pass a signal on; the process finishes its requests, and no other one is started."""
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)

    def read(self) -> None:
        """Record the measurements that the process has written."""
        if self._replay is not None and self._replay.read():
            self._last_heartbeat = monotonic()

    @property
    def is_up(self) -> bool:
        """Whether there was a heartbeat within the last seconds."""
        return monotonic() - self._last_heartbeat < HEARTBEAT_TIMEOUT

    async def _start(self, pipeline: Pipeline) -> None:
        reading, writing = os.pipe()
        new_settings, sending = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        # A worker that is started later has the same settings, whatever their files have by then.
        others = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, *VARIABLES))}
        told = (self._settings, {**others, **pipeline.worker_environment()})
        try:
            files = self._listening.fileno(), writing, new_settings
            self._process = await self._fork_server.start(told, *files)
        except BaseException:
            os.close(reading)
            os.close(sending)
            raise
        finally:
            os.close(writing)
            os.close(new_settings)
        self._replay = pipeline.replay(reading)
        self._new_settings, _ = await asyncio.get_running_loop().connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(sending, "wb", 0)
        )

    async def _end(self) -> int:
        """The exit status of the process, after its last measurements are recorded."""
        assert self._process is not None  # noqa: S101 - it was just started
        assert self._replay is not None  # noqa: S101 - the same
        assert self._new_settings is not None  # noqa: S101 - the same
        if self._stopping.is_set():  # while it was being started
            self._process.send_signal(signal.SIGTERM)
        status = await self._process.wait()
        self._replay.close()
        self._replay = None
        self._new_settings.close()
        self._new_settings = None
        self._last_heartbeat = float("-inf")
        return status


async def serve(
    settings: Settings, fork_server: ForkServer, load: Load = Settings.load, watched: Path | None = None
) -> None:
    """Serve with `settings.workers` processes until SIGINT or SIGTERM.

    `load` reads the settings again at SIGHUP, and when the file `watched` changes.

    Raises:
        SettingsError: a port is in use, or metrics cannot be pushed as configured; then nothing is left open.
    """
    workers: list[Worker] = []

    def observe() -> Iterator[tuple[str, bool]]:
        for worker in workers:
            worker.read()
            yield worker.name, worker.is_up

    pipeline = Pipeline(observe_workers=observe)
    with (
        public_socket(settings) as public,
        listen(settings.metrics_host, settings.metrics_port, "METRICS_PORT") as private,
    ):
        announce(settings, public, private)
        workers += [Worker(number, settings, public, fork_server) for number in range(settings.workers)]
        metrics = metrics_listener(settings, pipeline, private)

        async def use(settings: Settings) -> None:
            refuse_default_issuer(public)
            logs.configure(settings)
            for worker in workers:
                worker.use(settings)

        async with asyncio.TaskGroup() as group:
            group.create_task(metrics.run_until_stopped())
            reading = group.create_task(_keep_reading(workers))
            running = [group.create_task(worker.keep_running(pipeline)) for worker in workers]

            with on_signals(_Stopping(public, workers)):
                async with Reloads(settings, load, use, pipeline).on_hangup(watched):
                    await asyncio.wait(running)
            reading.cancel()
            metrics.should_exit = True
        pipeline.shutdown()


class _Stopping:
    """The signal handler: the first signal lets requests finish, a second one ends everything at once."""

    def __init__(self, public: socket.socket, workers: list[Worker]) -> None:
        self._public = public
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._has_begun = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self._has_begun:
            for worker in self._workers:
                worker.kill()
            end_at_once(number)
        self._has_begun = True
        notify("STOPPING=1")
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        # As long as it is open here, the kernel accepts connections that no worker will serve.
        self._public.close()
        for worker in self._workers:
            worker.stop(number)


async def _keep_reading(workers: list[Worker]) -> None:
    has_started = False
    while True:
        for worker in workers:
            worker.read()
        if not has_started and all(worker.is_up for worker in workers):
            has_started = True
            notify("READY=1")
        await asyncio.sleep(READ_INTERVAL)
