"""What every `HeldResponseStore` does, held for those there are."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from seed_oauth.flows.held_responses import HeldResponseStore
from seed_oauth.outcomes import ClientFamily
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.database import RedisDatabase
from seed_oauth.storage.redis.held_responses import RedisHeldResponseStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.held_responses import SqliteHeldResponseStore
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
CURSOR, OTHER = ClientFamily.CURSOR, ClientFamily.OTHER


@dataclass
class Place:
    """Where responses are held, and the processes that use it."""

    opens: Callable[[AsyncExitStack], HeldResponseStore]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def process(self) -> HeldResponseStore:
        return self.opens(self.stack)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    server: RedisServer | None = request.getfixturevalue("empty_redis") if request.param == "redis" else None

    def in_sqlite(stack: AsyncExitStack) -> HeldResponseStore:
        database = Database(f"sqlite:///{tmp_path}/store.db")
        stack.push_async_callback(database.aclose)
        return SqliteHeldResponseStore(database)

    def in_redis(stack: AsyncExitStack) -> HeldResponseStore:
        assert server is not None
        database = RedisDatabase(server.url)
        stack.push_async_callback(database.aclose)
        return RedisHeldResponseStore(database)

    opened = Place(in_redis if server else in_sqlite)
    async with opened.stack:
        yield opened


async def test_what_one_process_holds_any_other_takes_once(place: Place) -> None:
    here, elsewhere = place.process(), place.process()
    await here.hold(1, b"sealed a", CURSOR, expires_at=NOW)
    await here.hold(2, b"sealed b", OTHER, expires_at=NOW)
    assert await elsewhere.take(1) == b"sealed a"
    assert await elsewhere.take(1) is None
    assert await here.take(1) is None
    assert await here.take(2) == b"sealed b"
    assert await here.take(3) is None


async def test_of_all_that_take_one_at_once_one_gets_it(place: Place) -> None:
    """THREATS 3."""
    processes = [place.process() for _ in range(4)]
    taken: list[bytes] = []

    async def take(store: HeldResponseStore, key: int) -> None:
        sealed = await store.take(key)
        if sealed is not None:
            taken.append(sealed)

    keys = list(range(50))
    for key in keys:
        await processes[0].hold(key, b"%d" % key, OTHER, expires_at=NOW)
    async with anyio.create_task_group() as group:
        for key in keys:
            for process in processes:
                group.start_soon(take, process, key)
    assert sorted(taken) == sorted(b"%d" % key for key in keys)


async def test_those_that_have_expired_are_deleted_and_counted_once_by_family(place: Place) -> None:
    here, elsewhere = place.process(), place.process()
    for number in range(3):
        await here.hold(-number, b"sealed", CURSOR, expires_at=NOW + number)
    await here.hold(4, b"sealed", OTHER, expires_at=NOW + 1)
    await here.hold(5, b"sealed", OTHER, expires_at=NOW)
    assert await here.take(5) == b"sealed"
    assert await elsewhere.delete_expired(now=NOW) == {}
    assert await elsewhere.delete_expired(now=NOW + 1.5) == {"cursor": 2, "other": 1}
    assert await here.delete_expired(now=NOW + 1.5) == {}
    assert await here.take(-1) is None
    assert await here.take(-2) == b"sealed"
    assert await here.delete_expired(now=NOW + 9) == {}


async def test_each_is_either_taken_or_counted_however_many_try_at_once(place: Place) -> None:
    processes = [place.process() for _ in range(3)]
    ended: list[int] = []
    keys = list(range(60))
    for key in keys:
        await processes[0].hold(key, b"%d" % key, OTHER, expires_at=NOW)

    async def take(store: HeldResponseStore, key: int) -> None:
        ended.append(await store.take(key) is not None)

    async def delete(store: HeldResponseStore) -> None:
        ended.append(sum((await store.delete_expired(now=NOW + 1)).values()))

    async with anyio.create_task_group() as group:
        for number, key in enumerate(keys):
            group.start_soon(take, processes[number % 3], key)
            if number % 20 == 10:
                group.start_soon(delete, processes[(number + 1) % 3])
    assert sum(ended) == len(keys)


async def test_the_tables_of_earlier_versions_are_deleted(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as earlier:
        for table in ("held_responses", "held_token_responses"):
            earlier.execute(f"CREATE TABLE {table} (key TEXT PRIMARY KEY, sealed TEXT, client_family TEXT)")
        database = Database(f"sqlite:///{tmp_path}/store.db")
        store = SqliteHeldResponseStore(database)
        await store.hold(-1, b"sealed", OTHER, expires_at=NOW)
        assert await store.take(-1) == b"sealed"
        assert not earlier.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'held%'").fetchall()
    await database.aclose()


async def test_a_store_that_does_not_work_says_so(tmp_path: Path) -> None:
    store = SqliteHeldResponseStore(Database(f"sqlite:///{tmp_path}/missing/store.db"))
    with pytest.raises(StoreError):
        await store.hold(1, b"sealed", OTHER, expires_at=NOW)
    with pytest.raises(StoreError):
        await store.take(1)
    with pytest.raises(StoreError):
        await store.delete_expired(now=NOW)


@pytest.mark.real_parts("redis")
async def test_redis_deletes_by_itself_what_no_server_is_left_to_delete(empty_redis: RedisServer) -> None:
    database = RedisDatabase(empty_redis.url)
    await RedisHeldResponseStore(database).hold(1, b"sealed", OTHER, expires_at=NOW)
    for key in ("sealed", "by-expiry"):
        assert 0 < int(empty_redis.ask("TTL", f"seed-oauth:{{sealed-token-responses}}:{key}")) <= 3600
    await database.aclose()


@pytest.mark.real_parts("redis")
async def test_what_redis_has_evicted_is_not_counted(empty_redis: RedisServer) -> None:
    database = RedisDatabase(empty_redis.url)
    store = RedisHeldResponseStore(database)
    await store.hold(1, b"sealed", OTHER, expires_at=NOW)
    empty_redis.ask("DEL", "seed-oauth:{sealed-token-responses}:sealed")
    assert await store.delete_expired(now=NOW + 1) == {}
    assert await store.take(1) is None
    await database.aclose()
