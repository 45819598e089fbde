"""The front door whose recorder is on and off in turns; `GET /turns` tells what a request cost in each.

A lease is a tenth of a second and is compared with the one beside it, so whatever else the machine does
hits both alike.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import process_time
from unittest.mock import patch

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from seed_oauth import Settings, create_app
from seed_oauth.telemetry import Telemetry, logs

TURN = 0.1  # seconds


def nothing(*_: object) -> None:
    """The recorder when it is off."""


recorder_off = patch.multiple(Telemetry, record=nothing, record_exchange=nothing)


class Turns:
    """What requests cost, turn by turn."""

    def __init__(self) -> None:
        self.answered = 0
        self._costs: list[tuple[float, float]] = []

    async def take(self) -> None:
        """Switch the recorder off and on again for ever."""
        while True:
            on = await self._measure()
            with recorder_off:
                off = await self._measure()
            if on is not None and off is not None:
                self._costs.append((on, off))

    def told(self) -> list[tuple[float, float]]:
        """CPU microseconds of a request with the recorder on and off, of each pair of turns since last told."""
        costs, self._costs = self._costs, []
        return costs

    async def _measure(self) -> float | None:
        answered, spent = self.answered, process_time()
        await asyncio.sleep(TURN)
        requests = self.answered - answered
        return (process_time() - spent) / requests * 1e6 if requests else None


settings = Settings.load()
logs.configure(settings)
turns = Turns()
door = create_app(settings)


async def tell(_: Request) -> Response:
    return Response(orjson.dumps(turns.told()))


door_lifespan = door.router.lifespan_context


@asynccontextmanager
async def lifespan(starlette: Starlette) -> AsyncIterator[None]:
    async with door_lifespan(starlette):
        taking = asyncio.create_task(turns.take())
        yield
        taking.cancel()


door.routes.append(Route("/turns", tell))
door.router.lifespan_context = lifespan


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The front door, with its answers counted."""

    async def counting(message: Message) -> None:
        await send(message)
        turns.answered += message["type"] == "http.response.start"

    await door(scope, receive, counting)
