"""A worker process of `seed-oauth serve --workers N`."""

import asyncio
import os
import socket
from pathlib import Path

import orjson

from seed_oauth.app import create_app
from seed_oauth.server.listener import Listener
from seed_oauth.server.reload import FrontDoor, Reloads
from seed_oauth.server.signals import run
from seed_oauth.server.single import run_together
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.telemetry import ForwardingPipeline, logs

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two heartbeats to the supervisor."""

_LONGEST_LINE = 16 * 1024 * 1024  # bytes; the settings of 200 MCP servers take 60 KB


async def work(settings: Settings, listening: socket.socket, pipe: int, new_settings: int) -> None:
    """Serve requests until SIGINT or SIGTERM, or until the supervisor is gone."""
    pipeline = ForwardingPipeline(pipe)
    front_door = FrontDoor(settings, listening, pipeline)
    heartbeats = asyncio.create_task(_send_heartbeats(pipeline, front_door.listener))
    reloads = Reloads(settings, Settings.load, front_door.use, pipeline)
    reading = asyncio.create_task(_read_settings(new_settings, reloads))
    async with reloads.running():
        await run_together(front_door.listener)
    reading.cancel()
    heartbeats.cancel()
    pipeline.shutdown()


async def _read_settings(pipe: int, reloads: Reloads) -> None:
    """Use the settings that the supervisor sends, one JSON object of environment variables per line."""
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    while line := await reader.readline():
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            del os.environ[name]
        os.environ.update(orjson.loads(line))
        reloads.ask()


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


def main(told: tuple[Settings, dict[str, str]], listening: int, pipe: int, new_settings: int) -> None:
    """Serve with these settings and this environment, on these file descriptors."""
    settings, environment = told
    os.environ.clear()
    os.environ.update(environment)
    logs.configure(settings)
    run(work(settings, socket.socket(fileno=listening), pipe, new_settings))
