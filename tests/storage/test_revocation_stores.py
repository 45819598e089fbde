"""What every `RevocationStore` does, held for those there are."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import time

import anyio
import pytest

from seed_oauth.flows.revoked import FOR_GOOD, KEPT, UNDER_WAY, Revocation, RevocationStore, Revoked
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.database import RedisDatabase
from seed_oauth.storage.redis.revocations import RedisRevocationStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.revocations import SqliteRevocationStore
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

NOW = float(int(time()))


def revocation(name: str, at: float = NOW) -> Revocation:
    return Revocation(Revoked.GRANT, name, FOR_GOOD, at)


@dataclass
class Place:
    """Where revocations are stored, and the processes that use it."""

    opens: Callable[[AsyncExitStack], RevocationStore]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def process(self) -> RevocationStore:
        return self.opens(self.stack)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    server: RedisServer | None = request.getfixturevalue("empty_redis") if request.param == "redis" else None

    def in_sqlite(stack: AsyncExitStack) -> RevocationStore:
        database = Database(f"sqlite:///{tmp_path}/store.db")
        stack.push_async_callback(database.aclose)
        return SqliteRevocationStore(database)

    def in_redis(stack: AsyncExitStack) -> RevocationStore:
        assert server is not None
        database = RedisDatabase(server.url)
        stack.push_async_callback(database.aclose)
        return RedisRevocationStore(database)

    opened = Place(in_redis if server else in_sqlite)
    async with opened.stack:
        yield opened


async def everything(store: RevocationStore) -> list[Revocation]:
    read: list[Revocation] = []
    while found := await store.unread():
        read += found
    return read


async def test_each_process_reads_each_revocation_once_as_it_was_made(place: Place) -> None:
    here, elsewhere = place.process(), place.process()
    made = [
        Revocation(Revoked.GRANT, "a grant", FOR_GOOD, NOW),
        Revocation(Revoked.CLIENT, "https://app.example/ü", NOW + 0.125, NOW + 1),
        Revocation(Revoked.SUBJECT, "0" * 64, NOW - 7, NOW + 2),
        Revocation(Revoked.ALL, "", NOW, NOW + 3),
    ]
    assert await everything(elsewhere) == []
    for one in made:
        await here.add(one)
    assert await everything(elsewhere) == made
    assert await everything(elsewhere) == []
    await elsewhere.add(made[0])
    assert await everything(elsewhere) == made[:1]
    assert await everything(here) == [*made, made[0]]
    assert await everything(place.process()) == [*made, made[0]]


async def test_none_is_missed_however_many_are_made_at_once(place: Place) -> None:
    processes = [place.process() for _ in range(3)]
    reader = place.process()
    read: list[Revocation] = []

    async def make(store: RevocationStore, number: int) -> None:
        for one in range(400):
            await store.add(revocation(f"{number}:{one}"))

    async with anyio.create_task_group() as group:
        for number, process in enumerate(processes):
            group.start_soon(make, process, number)
        while len(read) < 1200:
            read += await everything(reader)
            await anyio.lowlevel.checkpoint()
    assert {one.name for one in read} == {f"{number}:{one}" for number in range(3) for one in range(400)}
    assert sorted(await everything(place.process())) == sorted(read)


async def test_sqlite_deletes_what_nobody_needs_any_more(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/store.db")
    store = SqliteRevocationStore(database)
    await store.add(revocation("old", NOW - KEPT - 1))
    await store.add(revocation("kept", NOW - KEPT))
    await store.add(revocation("new"))
    assert [one.name for one in await everything(SqliteRevocationStore(database))] == ["kept", "new"]
    await database.aclose()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
async def test_a_store_with_too_many_forgets_the_oldest_and_revokes_everything_from_before(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Fail closed: a process that starts afterwards reads no more of the forgotten ones than their epoch."""
    database: RedisDatabase | Database
    store: Callable[..., RevocationStore]
    if kind == "redis":
        database = RedisDatabase(request.getfixturevalue("empty_redis").url)
        store = partial(RedisRevocationStore, database)
    else:
        database = Database(f"sqlite:///{tmp_path}/store.db")
        store = partial(SqliteRevocationStore, database)
    here, elsewhere = store(capacity=10), store()
    for number in range(10):
        await here.add(revocation(str(number), NOW + number))
    assert len(await everything(elsewhere)) == 10
    await here.add(revocation("ten", NOW + 1000))
    kept = [revocation("ten", NOW + 1000), Revocation(Revoked.ALL, "", NOW + 9 + UNDER_WAY, NOW + 1000)]
    assert await everything(elsewhere) == kept
    assert await everything(store()) == kept
    await database.aclose()


async def test_a_sqlite_file_that_takes_the_place_of_another_is_read_from_its_beginning(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/store.db")
    store = SqliteRevocationStore(database)
    for name in "ab":
        await store.add(revocation(name))
    assert len(await everything(store)) == 2
    await database.aclose()
    for file in tmp_path.iterdir():
        file.unlink()
    await store.add(revocation("c"))
    assert [one.name for one in await everything(store)] == ["c"]
    await database.aclose()


async def test_a_store_that_does_not_work_says_so(tmp_path: Path) -> None:
    store = SqliteRevocationStore(Database(f"sqlite:///{tmp_path}/missing/store.db"))
    with pytest.raises(StoreError):
        await store.add(revocation("a"))
    with pytest.raises(StoreError):
        await store.unread()


@pytest.mark.real_parts("redis")
async def test_redis_forgets_them_by_itself(empty_redis: RedisServer) -> None:
    database = RedisDatabase(empty_redis.url)
    # As they are after a day: IDs are of Redis's clock.
    for number in range(300):
        empty_redis.ask("XADD", "seed-oauth:revocations", f"{number + 1}-0", "kind", "grant")
    await RedisRevocationStore(database).add(revocation("new"))
    assert int(empty_redis.ask("XLEN", "seed-oauth:revocations")) < 200
    assert KEPT - 60 < int(empty_redis.ask("TTL", "seed-oauth:revocations")) <= KEPT
    await database.aclose()
