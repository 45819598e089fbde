"""A worker process of `seed-oauth serve --workers N`; started by the supervisor, not by hand."""

import asyncio
import os
import socket
import sys

from seed_oauth.app import create_app
from seed_oauth.server import Listener, run, run_together
from seed_oauth.settings import Settings
from seed_oauth.telemetry import ForwardingPipeline, logs

SIGN_OF_LIFE_INTERVAL = 1.0
"""Seconds between two signs of life to the supervisor."""


async def work(settings: Settings, listening: socket.socket, pipe: int) -> None:
    """Answer requests until SIGINT or SIGTERM, or until the supervisor is gone."""
    pipeline = ForwardingPipeline(pipe)
    front_door = Listener(create_app(settings, pipeline=pipeline), listening)
    living = asyncio.create_task(_give_signs_of_life(pipeline, front_door))
    await run_together(front_door)
    living.cancel()
    pipeline.shutdown()


async def _give_signs_of_life(pipeline: ForwardingPipeline, front_door: Listener) -> None:
    while pipeline.give_sign_of_life():
        await asyncio.sleep(SIGN_OF_LIFE_INTERVAL)
    front_door.should_exit = True


def main() -> None:
    """Take over the file descriptors that the supervisor names."""
    listening, pipe = (int(argument) for argument in sys.argv[1:])
    os.set_inheritable(pipe, False)
    settings = Settings.load()
    logs.configure(settings)
    run(work(settings, socket.socket(fileno=listening), pipe))


if __name__ == "__main__":
    main()
