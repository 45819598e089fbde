"""A worker process of `seed-oauth serve --workers N`."""

import asyncio
import os
import socket
from pathlib import Path

from seed_oauth.app import create_app
from seed_oauth.server.known_hosts import public_hosts
from seed_oauth.server.listener import Listener
from seed_oauth.server.signals import run
from seed_oauth.server.single import run_together
from seed_oauth.settings import Settings
from seed_oauth.telemetry import ForwardingPipeline, logs

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two heartbeats to the supervisor."""


async def work(settings: Settings, listening: socket.socket, pipe: int) -> None:
    """Serve requests until SIGINT or SIGTERM, or until the supervisor is gone."""
    pipeline = ForwardingPipeline(pipe)
    front_door = Listener(
        create_app(settings, pipeline=pipeline), listening, hosts=public_hosts(settings), pipeline=pipeline
    )
    heartbeats = asyncio.create_task(_send_heartbeats(pipeline, front_door))
    await run_together(front_door)
    heartbeats.cancel()
    pipeline.shutdown()


async def _send_heartbeats(pipeline: ForwardingPipeline, front_door: Listener) -> None:
    while pipeline.give_sign_of_life():
        await asyncio.sleep(HEARTBEAT_INTERVAL)
    front_door.should_exit = True


def rehearse(settings: Settings) -> None:
    """Build the app once and forget it, before workers are forked: they share what Python and libraries keep of that.

    Raises:
        SettingsError: metrics or spans cannot be pushed as configured.
    """
    with Path(os.devnull).open("wb") as nowhere:
        pipeline = ForwardingPipeline(nowhere.fileno())
        # An audit trail would have a file or a thread.
        create_app(settings.model_copy(update={"audit_log": None}), pipeline=pipeline)
        pipeline.shutdown()


def main(told: tuple[Settings, dict[str, str]], listening: int, pipe: int) -> None:
    """Serve with these settings and this environment, on these file descriptors."""
    settings, environment = told
    os.environ.clear()
    os.environ.update(environment)
    logs.configure(settings)
    run(work(settings, socket.socket(fileno=listening), pipe))
