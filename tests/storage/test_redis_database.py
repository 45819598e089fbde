"""The connection to Redis: it fails fast, recovers by itself, and tells nothing of what it was told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.exceptions import ResponseError

from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.database import BREAK, RedisDatabase
from tests.cli.test_cli import free_port
from tests.integration.real_parts import eventually
from tests.redis_servers import RedisServer, cluster, redis_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


class Clock:
    """What time it is, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(server: RedisServer, clock: Clock) -> AsyncIterator[RedisDatabase]:
    opened = RedisDatabase(server.url, clock)
    yield opened
    await opened.aclose()


@pytest.mark.real_parts("redis")
async def test_it_answers_and_can_be_used_again_after_it_was_closed(database: RedisDatabase) -> None:
    assert await database.command("SET", "a", "1")
    await database.aclose()
    assert await database.command("GET", "a") == b"1"


@pytest.mark.real_parts("redis")
async def test_a_refusal_is_a_store_error_that_repeats_nothing_and_breaks_nothing(database: RedisDatabase) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match=r"^it refuses a command$"):
            await database.command("EVAL", "return redis.error_reply('secret')", 0)
    assert await database.command("PING")


@pytest.mark.real_parts("redis")
async def test_work_of_others_may_be_done_on_the_same_connections(database: RedisDatabase) -> None:
    assert await database.run(lambda client: client.incrby("n", 5)) == 5
    with pytest.raises(StoreError) as refused:
        await database.run(lambda client: client.incrby("n", "x"))  # type: ignore[arg-type]
    assert isinstance(refused.value.__cause__, ResponseError)


@pytest.mark.real_parts("redis")
async def test_a_redis_that_was_restarted_is_used_again_without_a_failure_more(
    server: RedisServer, database: RedisDatabase
) -> None:
    await asyncio.gather(*(database.command("PING") for _ in range(8)))
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert all(await asyncio.gather(*(database.command("PING") for _ in range(8))))


@pytest.mark.real_parts("redis")
async def test_while_redis_is_gone_only_one_call_a_second_asks_for_it(
    server: RedisServer, database: RedisDatabase, clock: Clock
) -> None:
    await asyncio.to_thread(server.kill)
    with pytest.raises(StoreError, match=r"^Connection refused$"):
        await database.command("PING")
    await asyncio.to_thread(server.start)
    clock.now = BREAK - 0.01
    with pytest.raises(StoreError, match=r"^Connection refused$"):
        await database.command("PING")
    clock.now = BREAK
    assert await database.command("PING")
    assert await database.command("PING")


@pytest.mark.parametrize("scheme", ["redis://", "rediss://", "redis+sentinel://", "redis+cluster://"])
async def test_whatever_kind_it_is_of_one_that_is_not_there_is_a_store_error(scheme: str) -> None:
    where = f"127.0.0.1:{free_port()}" + ("/main" if "sentinel" in scheme else "")
    database = RedisDatabase(scheme + where)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"^(Connection refused|the Sentinels know no|no node of a Redis Cluster)"):
            await database.command("GET", "a")
    await database.aclose()


@pytest.mark.real_parts("redis")
async def test_a_redis_that_is_no_cluster_is_a_store_error(server: RedisServer) -> None:
    database = RedisDatabase(server.url.removesuffix("/0").replace("redis://", "redis+cluster://"))
    with pytest.raises(StoreError, match=r"^no node of a Redis Cluster answers$"):
        await database.command("GET", "a")
    await database.aclose()


@pytest.mark.real_parts("redis")
async def test_a_paused_redis_holds_up_those_who_asked_and_nobody_after_them(
    server: RedisServer, database: RedisDatabase, clock: Clock
) -> None:
    """Faults, "Redis paused"."""
    await database.command("PING")
    server.pause()
    answers = await asyncio.gather(*(database.command("PING") for _ in range(100)), return_exceptions=True)
    assert {str(answer) for answer in answers} == {"no answer in time"}
    clock.now = BREAK
    trying = asyncio.create_task(database.command("PING"))
    await anyio.wait_all_tasks_blocked()
    for _ in range(100):
        with pytest.raises(StoreError):  # at once, while one finds out
            await asyncio.wait_for(database.command("PING"), 0.5)
    assert not trying.done()
    server.go_on()
    assert await trying
    assert await database.command("PING")


@pytest.mark.real_parts("redis")
async def test_a_caller_who_gives_up_leaves_no_answer_behind_for_the_next(
    server: RedisServer, database: RedisDatabase
) -> None:
    await database.command("SET", "a", "of a")
    server.pause()
    with anyio.move_on_after(0.05):
        await database.command("GET", "a")
    server.go_on()
    assert await database.command("PING") is True


@pytest.mark.real_parts("redis")
async def test_more_callers_than_connections_wait_for_one(database: RedisDatabase) -> None:
    answers = await asyncio.gather(*(database.command("INCR", "n") for _ in range(300)))
    assert sorted(answers) == list(range(1, 301))


@pytest.mark.real_parts("redis")
async def test_a_cluster_whose_node_was_restarted_is_used_again_by_itself(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        database = RedisDatabase(nodes.url)

        async def set_all() -> list[Any]:
            keys = [f"key {number}" for number in range(30)]
            return await asyncio.gather(*(database.command("SET", key, 1) for key in keys), return_exceptions=True)

        async def all_are_set() -> bool:
            return await set_all() == [True] * 30

        assert await all_are_set()
        await asyncio.to_thread(nodes.nodes[0].kill)
        assert StoreError in {type(answer) for answer in await set_all()}
        await asyncio.to_thread(nodes.nodes[0].start)
        assert await eventually(all_are_set)
        await database.aclose()
