"""The state of the processes in a scrape: connections, the event loop, the identity provider's circuits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from time import sleep

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seed_oauth import Pipeline
from seed_oauth.server.connection_limits import Limits
from seed_oauth.server.loop_lag import LoopLag
from seed_oauth.telemetry.gauges import (
    CIRCUIT_OPEN,
    CLIENT_QUOTA,
    CONNECTIONS,
    EVENT_LOOP_LAG,
    IDP_IN_FLIGHT,
    MCP_STREAMS,
    REGISTERED_CLIENTS,
    STORE_CHECK,
)
from tests.broker import BrokerDoor
from tests.faults.served import RawClient, connect, served
from tests.harness import BrokenStore, FrontDoor, RelayDoor, code_request
from tests.telemetry.test_forwarding import make_pipe

pytestmark = pytest.mark.anyio


async def value(pipeline: Pipeline, name: str, **labels: str) -> float:
    return await FrontDoor(pipeline=pipeline).value(name, **labels)


async def names(pipeline: Pipeline) -> set[str]:
    return {name for name, _ in await FrontDoor(pipeline=pipeline).samples()}


async def test_the_version_is_a_label() -> None:
    assert await value(Pipeline(), "seed_oauth_build_info", version=version("seed-oauth")) == 1


async def test_what_nobody_observes_is_not_there() -> None:
    assert CONNECTIONS.series.name not in await names(Pipeline())


async def test_two_apps_with_one_pipeline_add_up() -> None:
    pipeline = Pipeline()
    for active in (1, 2):
        pipeline.observe(CONNECTIONS, partial(dict, active=active))
    assert await value(pipeline, CONNECTIONS.series.name, state="active") == 3


async def test_workers_add_up_but_for_the_lag_and_are_forgotten_when_they_end() -> None:
    supervisor = Pipeline()
    pipes = [make_pipe(supervisor) for _ in range(2)]
    for number, pipe in enumerate(pipes, start=1):
        pipe.worker.observe(CONNECTIONS, partial(dict, active=number, idle=1))
        pipe.worker.observe(EVENT_LOOP_LAG, partial(dict, {"": number / 10}))
        pipe.worker.give_sign_of_life()
        pipe.replay.read()
    assert await value(supervisor, CONNECTIONS.series.name, state="active") == 3
    assert await value(supervisor, CONNECTIONS.series.name, state="idle") == 2
    assert await value(supervisor, EVENT_LOOP_LAG.series.name) == 0.2
    pipes[1].replay.close()
    assert await value(supervisor, CONNECTIONS.series.name, state="active") == 1
    make_pipe(supervisor)
    assert await value(supervisor, EVENT_LOOP_LAG.series.name) == 0.1


async def test_an_identity_provider_that_does_not_respond_opens_its_circuit() -> None:
    def unreachable(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with RelayDoor(idp=unreachable) as door:
        assert await door.value(CIRCUIT_OPEN.series.name, operation="token") == 0
        for _ in range(10):
            await door.token(code_request())
        assert await door.value(CIRCUIT_OPEN.series.name, operation="token") == 1
        assert await door.value(CIRCUIT_OPEN.series.name, operation="userinfo") == 0


async def test_a_request_that_waits_for_the_identity_provider_is_in_flight() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        asked.set()
        await may_answer.wait()
        return httpx.Response(200, json={"access_token": "at"})

    async with RelayDoor(idp=slow) as door:
        async with anyio.create_task_group() as group:
            group.start_soon(door.token, code_request())
            await asked.wait()
            assert await door.value(IDP_IN_FLIGHT.series.name, operation="token") == 1
            may_answer.set()
        assert await door.value(IDP_IN_FLIGHT.series.name, operation="token") == 0


async def state_of_the_store(door: FrontDoor) -> dict[str, float]:
    """What a scrape has of the store, by name, after a probe of the readiness."""
    await door.http.get("/readyz")
    gauges = (STORE_CHECK, REGISTERED_CLIENTS, CLIENT_QUOTA)
    samples = await door.samples()
    return {gauge.series.name: value for gauge in gauges if (value := samples.get((gauge.series.name, frozenset())))}


async def test_the_store_shows_its_clients_their_quota_and_how_long_a_check_takes() -> None:
    async with BrokerDoor(settings={"client_quota": 500}) as door:
        before = await state_of_the_store(door)
        await door.register()
        after = await state_of_the_store(door)
    assert after["seed_oauth_registered_clients"] == before["seed_oauth_registered_clients"] + 1
    assert after["seed_oauth_client_quota"] == 500
    assert 0 < after["seed_oauth_store_check_seconds"] < 60


async def test_an_app_that_was_replaced_leaves_the_gauges_of_the_store() -> None:
    pipeline = Pipeline()
    for quota in (500, 300):
        async with BrokerDoor(settings={"client_quota": quota}, pipeline=pipeline) as door:
            assert (await state_of_the_store(door))["seed_oauth_client_quota"] == quota


class Uncounted(BrokenStore):
    """A store of somebody's own, that does not tell how many clients it has, and that may fail."""

    is_down = False

    async def check(self) -> None:
        if self.is_down:
            await super().check()


async def test_what_is_not_known_of_the_store_is_not_there() -> None:
    store = Uncounted()
    async with FrontDoor(clients=store) as door:
        assert (await state_of_the_store(door)).keys() == {"seed_oauth_store_check_seconds"}
        store.is_down = True
        assert await state_of_the_store(door) == {}


async def test_workers_have_one_store_but_streams_of_their_own() -> None:
    supervisor = Pipeline()
    for number in (1, 2):
        pipe = make_pipe(supervisor)
        pipe.worker.observe(REGISTERED_CLIENTS, partial(dict, {"": 10 + number}))
        pipe.worker.observe(MCP_STREAMS, partial(dict, {"": number}))
        pipe.worker.give_sign_of_life()
        pipe.replay.read()
    assert await value(supervisor, REGISTERED_CLIENTS.series.name) == 12
    assert await value(supervisor, MCP_STREAMS.series.name) == 3


class Held:
    """An app that answers when it may."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.may_answer.wait()
        assert Request(scope).method == "GET"
        await Response("served")(scope, receive, send)


@asynccontextmanager
async def held(pipeline: Pipeline) -> AsyncIterator[tuple[Held, list[RawClient]]]:
    app = Held()
    async with served(app, pipeline=pipeline) as listener:
        clients = [await connect(listener) for _ in range(2)]
        yield app, clients
        for client in clients:
            client.leave()


GET = b"GET / HTTP/1.1\r\nHost: door\r\n\r\n"


async def test_connections_are_active_while_a_request_is_answered() -> None:
    pipeline = Pipeline()
    async with held(pipeline) as (app, clients):
        await clients[0].send(GET)
        await app.asked.wait()
        assert await value(pipeline, CONNECTIONS.series.name, state="active") == 1
        assert await value(pipeline, CONNECTIONS.series.name, state="idle") == 1
        app.may_answer.set()
        await clients[0].answer()
        assert await value(pipeline, CONNECTIONS.series.name, state="active") == 0


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"no http at all\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: door\r\nLarge: " + b"x" * 70_000, 431, "head_too_large"),
        (b"CONNECT door:443 HTTP/1.1\r\nHost: door\r\n\r\n", 501, "not_implemented"),
    ],
)
async def test_a_request_that_no_endpoint_sees_is_counted_by_its_reason(
    request_: bytes, status: int, reason: str
) -> None:
    pipeline = Pipeline()
    async with held(pipeline) as (_, (client, _)):
        await client.send(request_)
        assert (await client.answer()).status == status
        assert await value(pipeline, "seed_oauth_refused_requests_total", reason=reason) == 1


async def test_a_request_beyond_the_number_of_connections_is_counted() -> None:
    pipeline = Pipeline()
    app = Held()
    async with served(app, Limits(connections=1), pipeline) as listener:
        first = await connect(listener)
        await first.send(GET)
        await app.asked.wait()
        second = await connect(listener)
        await second.send(GET)
        assert (await second.answer()).status == 503
        assert await value(pipeline, "seed_oauth_refused_requests_total", reason="full") == 1
        app.may_answer.set()
        for client in (first, second):
            client.leave()


async def test_an_event_loop_that_is_blocked_has_a_lag_until_a_minute_later() -> None:
    lag = LoopLag()
    measuring = asyncio.create_task(lag.measure())
    await asyncio.sleep(0)
    assert lag.longest() == {"": 0.0}
    sleep(0.3)
    async with asyncio.timeout(60):
        while not lag.longest()[""]:
            await asyncio.sleep(0)
    assert lag.longest()[""] > 0.1
    measuring.cancel()
