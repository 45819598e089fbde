"""`seed-oauth serve` with one process: the front door and the metrics, on two listeners in one event loop."""

import asyncio
from functools import partial
from pathlib import Path
from types import FrameType

from seed_oauth.server.announcement import announce
from seed_oauth.server.listener import Listener, listen, metrics_listener, public_socket
from seed_oauth.server.process_limits import relax_garbage_collection
from seed_oauth.server.reload import FrontDoor, Load, Reloads
from seed_oauth.server.service_manager import notify
from seed_oauth.server.signals import end_at_once, on_signals
from seed_oauth.settings import Settings
from seed_oauth.telemetry import Pipeline


async def serve(settings: Settings, load: Load = Settings.load, watched: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    `load` reads the settings again at SIGHUP, and when the file `watched` changes.

    Raises:
        SettingsError: a port is in use, or metrics cannot be pushed as configured; then nothing is left open.
    """
    pipeline = Pipeline()
    with (
        public_socket(settings) as public,
        listen(settings.metrics_host, settings.metrics_port, "METRICS_PORT") as private,
    ):
        announce(settings, public, private)
        front_door = FrontDoor(settings, public, pipeline, partial(notify, "READY=1"))
        async with Reloads(settings, load, front_door.use, pipeline).on_hangup(watched):
            await run_together(front_door.listener, metrics_listener(settings, pipeline, private))
        pipeline.shutdown()


async def run_together(front_door: Listener, *others: Listener) -> None:
    """Run the listeners until SIGINT or SIGTERM; the others run until the front door has finished its last request."""

    def stop(number: int, _: FrameType | None) -> None:
        if front_door.should_exit:
            end_at_once(number)
        notify("STOPPING=1")
        front_door.should_exit = True

    relax_garbage_collection()
    with on_signals(stop):
        async with asyncio.TaskGroup() as group:
            for other in others:
                group.create_task(other.run_until_stopped())
            await front_door.run_until_stopped()
            for other in others:
                other.should_exit = True
