"""What one replica has counted holds for the others, and Redis can be gone without anybody noticing."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from seed_oauth.rate_limits import RateLimits, Window
from seed_oauth.rate_limits.shared import SharedLimits
from seed_oauth.storage.redis.database import RedisDatabase
from tests.broker import Clock
from tests.cli.test_cli import PATIENCE
from tests.harness import FrontDoor, registration_request
from tests.redis_servers import RedisServer, cluster, redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("redis")]

KEY = b"\x34\x01\x02\x03"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


class Replica:
    """The limits of one process; all are thirty registrations a minute."""

    def __init__(self, redis: RedisDatabase, now: Clock) -> None:
        self.limits = RateLimits(register="30/minute", now=now)
        self.sharing = SharedLimits(self.limits, redis)
        self.window: Window = self.limits.windows["register:30:60"]

    def asks(self, times: int, key: bytes = KEY) -> int:
        """How many of so many requests are let pass."""
        passed = 0
        for _ in range(times):
            if self.window.wait(key) == 0:
                self.window.count(key)
                passed += 1
        return passed


@asynccontextmanager
async def replicas(url: str, clock: Clock) -> AsyncIterator[tuple[Replica, Replica]]:
    one, two = (Replica(RedisDatabase(url), clock) for _ in range(2))
    yield one, two
    await one.sharing.aclose()
    await two.sharing.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_010.0)


async def test_a_limit_holds_for_all_replicas_together(server: RedisServer, clock: Clock) -> None:
    async with replicas(server.url, clock) as (one, two):
        assert one.asks(20) == 20
        await one.sharing.exchange()
        assert two.asks(5) == 5
        await two.sharing.exchange()
        assert two.asks(30) == 5
        await two.sharing.exchange()
        assert one.asks(30) == 10  # what others did since is learnt at the next exchange
        await one.sharing.exchange()
        assert one.asks(1) == 0
        assert two.asks(1, b"another") == 1


async def test_it_holds_in_a_cluster_too(tmp_path: Path, clock: Clock) -> None:
    with cluster(tmp_path) as nodes:
        async with replicas(nodes.url, clock) as (one, two):
            keys = [bytes([number]) for number in range(20)]  # of several nodes
            for key in keys:
                one.asks(20, key)
            await one.sharing.exchange()
            for key in keys:
                two.asks(4, key)
            await two.sharing.exchange()
            assert all(two.asks(30, key) == 6 for key in keys)


async def test_whoever_asks_seldom_is_none_of_redis_business(server: RedisServer, clock: Clock) -> None:
    async with replicas(server.url, clock) as (one, _):
        one.asks(3)
        await one.sharing.exchange()
        assert server.ask("DBSIZE") == 0
        one.asks(1)
        await one.sharing.exchange()
        assert server.ask("DBSIZE") == 1


async def test_nothing_is_left_in_redis_of_a_window_that_is_over(server: RedisServer, clock: Clock) -> None:
    async with replicas(server.url, clock) as (one, two):
        one.asks(30)
        await one.sharing.exchange()
        names = server.ask("KEYS", "*")
        assert isinstance(names, list)
        (name,) = names
        assert name.startswith(b"seed-oauth:limit:register:30:60:")
        assert 0 < int(str(server.ask("TTL", name.decode()))) <= 60
        clock.seconds += 60
        assert one.asks(1) == two.asks(1) == 1


async def test_to_tell_the_same_twice_counts_it_once(server: RedisServer, clock: Clock) -> None:
    """A command whose answer was too late is sent again, and Redis may carry out both."""
    async with replicas(server.url, clock) as (one, two):
        one.asks(10)
        for _ in range(5):
            one.window.changed.add(KEY)
            await one.sharing.exchange()
        two.asks(4)
        await two.sharing.exchange()
        assert two.asks(30) == 16


async def test_a_thousand_keys_are_told_in_portions(server: RedisServer, clock: Clock) -> None:
    async with replicas(server.url, clock) as (one, two):
        keys = [number.to_bytes(4) for number in range(1000)]
        for key in keys:
            one.asks(20, key)
        await one.sharing.exchange()
        assert server.ask("DBSIZE") == 1000
        for key in keys:
            two.asks(4, key)
        await two.sharing.exchange()
        assert all(two.asks(30, key) == 6 for key in keys)


async def test_without_redis_each_process_limits_alone_and_shares_again_when_it_is_back(
    server: RedisServer, clock: Clock
) -> None:
    async with replicas(server.url, clock) as (one, two):
        one.asks(20)
        server.kill()
        with capture_logs() as lines:
            await one.sharing.exchange()
            await one.sharing.exchange()
            assert (one.asks(30), two.asks(40)) == (10, 30)
            await anyio.to_thread.run_sync(server.start)
            with anyio.fail_after(PATIENCE):
                while one.window.changed:
                    await one.sharing.exchange()
                    await anyio.sleep(0.05)
        assert [(line["log_level"], line["event"]) for line in lines] == [
            ("warning", "rate limits are counted by this process alone"),
            ("info", "rate limits are shared again"),
        ]
        clock.seconds += 60
        one.asks(30)
        await one.sharing.exchange()
        two.asks(4)
        await two.sharing.exchange()
        assert two.asks(30) == 0


async def test_a_redis_that_does_not_answer_delays_no_request(server: RedisServer, clock: Clock) -> None:
    async with replicas(server.url, clock) as (one, _):
        server.pause()
        try:
            one.asks(10)
            async with anyio.create_task_group() as group:
                group.start_soon(one.sharing.exchange)
                await anyio.lowlevel.checkpoint()
                assert one.asks(30) == 20
                group.cancel_scope.cancel()
        finally:
            server.go_on()


async def test_doors_with_the_same_redis_share_their_limits(server: RedisServer, clock: Clock) -> None:
    settings = {"store_url": server.url, "rate_limit_register": "30/minute"}
    async with FrontDoor(settings=settings, now=clock) as one, FrontDoor(settings=settings, now=clock) as two:

        async def statuses(door: FrontDoor, times: int) -> list[int]:
            async with door.client("52.1.2.3") as http:
                answers = [await http.post("/oauth/register", json=registration_request()) for _ in range(times)]
            return [answer.status_code for answer in answers]

        assert await statuses(one, 20) == [201] * 20
        with anyio.fail_after(PATIENCE):
            while not server.ask("KEYS", "seed-oauth:limit:*"):
                await anyio.sleep(0.05)
            passed = 0
            while (await statuses(two, 1)) == [201]:
                passed += 1
                await anyio.sleep(0.2)
        assert 10 <= passed < 30
