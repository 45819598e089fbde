"""What every `GrantStore` does, held for those there are, and what is SQLite's and Redis's own."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import anyio
import pytest

from seed_oauth.flows.grants import GRACE, PER_SUBJECT, GrantStore, RefreshLease, Selection, StoredGrant
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.database import RedisDatabase
from seed_oauth.storage.redis.grants import RedisGrantStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.grants import SqliteGrantStore
from tests.cli.test_cli import PATIENCE
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

NOW = float(int(time()))
TURN = 11.0
LIFETIME = 90 * 86_400.0


@dataclass
class Store:
    """One store, as two processes see it."""

    here: GrantStore
    elsewhere: GrantStore

    async def take(self, generation: int, now: float = NOW, *, elsewhere: bool = False) -> RefreshLease | str:
        store = self.elsewhere if elsewhere else self.here
        return await store.take_lease("grant", generation, now=now, until=now + TURN, expires_at=now + LIFETIME)


@asynccontextmanager
async def in_sqlite(folder: Path) -> AsyncIterator[Store]:
    databases = [Database(f"sqlite:///{folder}/grants.db") for _ in range(2)]
    yield Store(*map(SqliteGrantStore, databases))
    for database in databases:
        await database.aclose()


@asynccontextmanager
async def in_redis(server: RedisServer) -> AsyncIterator[Store]:
    databases = [RedisDatabase(server.url) for _ in range(2)]
    yield Store(*map(RedisGrantStore, databases))
    for database in databases:
        await database.aclose()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    async with in_sqlite(tmp_path) as opened:
        yield opened


@pytest.fixture
async def redis_store(empty_redis: RedisServer) -> AsyncIterator[Store]:
    async with in_redis(empty_redis) as opened:
        yield opened


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
def store(request: pytest.FixtureRequest) -> Store:
    opened: Store = request.getfixturevalue(f"{request.param}_store")
    return opened


async def test_the_first_to_ask_has_the_turn_and_others_see_that_it_is_taken(store: Store) -> None:
    assert await store.take(0) is RefreshLease.YOURS
    assert await store.take(0) is RefreshLease.TAKEN
    assert await store.take(0, elsewhere=True) is RefreshLease.TAKEN


async def test_of_fifty_that_ask_at_once_one_has_the_turn(store: Store) -> None:
    """THREATS 3: also across processes."""
    turns: list[RefreshLease | str] = []

    async def ask(number: int) -> None:
        turns.append(await store.take(0, elsewhere=number % 2 == 0))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(ask, number)
    assert sorted(str(turn) for turn in turns) == ["RefreshLease.TAKEN"] * 49 + ["RefreshLease.YOURS"]


async def test_the_same_refresh_again_gets_the_answer_while_the_grace_lasts(store: Store) -> None:
    """PROTOCOL T6."""
    await store.take(0)
    await store.here.finish("grant", 0, "the answer", now=NOW)
    assert await store.take(0, NOW + 1) == "the answer"
    assert await store.take(0, NOW + GRACE, elsewhere=True) == "the answer"


async def test_after_the_grace_it_is_spent_and_its_successors_are_void(store: Store) -> None:
    """PROTOCOL T6, THREATS 17."""
    await store.take(0)
    await store.here.finish("grant", 0, "the answer", now=NOW)
    assert await store.take(0, NOW + GRACE + 1, elsewhere=True) is RefreshLease.SPENT
    for generation in (0, 1, 2):
        assert await store.take(generation, NOW + GRACE + 1) is RefreshLease.REVOKED


async def test_a_generation_before_the_last_is_spent_also_within_the_grace(store: Store) -> None:
    for generation in (0, 1):
        assert await store.take(generation) is RefreshLease.YOURS
        await store.here.finish("grant", generation, f"answer {generation}", now=NOW)
    assert await store.take(1) == "answer 1"
    assert await store.take(0) is RefreshLease.SPENT
    assert await store.take(1) is RefreshLease.REVOKED


async def test_a_reuse_is_found_out_by_one_alone_however_many_try(store: Store) -> None:
    await store.take(0)
    await store.here.finish("grant", 0, "the answer", now=NOW)
    turns: list[RefreshLease | str] = []

    async def ask(number: int) -> None:
        turns.append(await store.take(0, NOW + GRACE + 1, elsewhere=number % 2 == 0))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(ask, number)
    assert sorted(str(turn) for turn in turns) == ["RefreshLease.REVOKED"] * 19 + ["RefreshLease.SPENT"]


async def test_a_turn_that_is_given_back_is_anybodys(store: Store) -> None:
    await store.take(0)
    await store.here.abandon("grant", 0)
    assert await store.take(0, elsewhere=True) is RefreshLease.YOURS


async def test_a_turn_whose_taker_died_ends_by_itself(store: Store) -> None:
    await store.take(0)
    assert await store.take(0, NOW + TURN - 0.1, elsewhere=True) is RefreshLease.TAKEN
    assert await store.take(0, NOW + TURN, elsewhere=True) is RefreshLease.YOURS


async def test_the_answer_of_a_turn_that_was_taken_over_changes_nothing_any_more(store: Store) -> None:
    await store.take(0)
    await store.take(0, NOW + TURN, elsewhere=True)
    await store.elsewhere.finish("grant", 0, "the answer", now=NOW + TURN)
    await store.here.finish("grant", 0, "too late", now=NOW + TURN)
    assert await store.take(0, NOW + TURN) == "the answer"


@pytest.mark.parametrize("generation", [0, 1, 7])
async def test_a_grant_that_is_revoked_is_so_in_every_generation(store: Store, generation: int) -> None:
    await store.here.revoke("grant", expires_at=NOW + LIFETIME)
    assert await store.take(generation, elsewhere=True) is RefreshLease.REVOKED


async def test_a_grant_that_is_revoked_during_an_exchange_stays_revoked(store: Store) -> None:
    await store.take(0)
    await store.elsewhere.revoke("grant", expires_at=NOW + LIFETIME)
    await store.here.finish("grant", 0, "the answer", now=NOW)
    assert await store.take(0) is RefreshLease.REVOKED
    assert await store.take(1) is RefreshLease.REVOKED


async def test_a_store_that_lost_its_memory_logs_nobody_out(store: Store) -> None:
    assert await store.take(5) is RefreshLease.YOURS
    await store.here.finish("grant", 5, "the answer", now=NOW)
    assert await store.take(6) is RefreshLease.YOURS


async def test_grants_do_not_know_each_other(store: Store) -> None:
    await store.here.revoke("another", expires_at=NOW + LIFETIME)
    assert await store.take(0) is RefreshLease.YOURS


# Who has access


def described(grant_id: str = "grant", **changes: Any) -> StoredGrant:
    good = StoredGrant(
        grant_id=grant_id,
        client_id="https://app.example/client.json",
        client_name="Ännchen's client",
        client_family="other",
        subject_hash="a user",
        session_hash="a session",
        scope="files:read",
        resource="https://door.example/mcp",
        issued_at=int(NOW),
        used_at=int(NOW),
        address="192.0.2.1",
        token_hash="a token",
    )
    return good._replace(**changes)


async def everyone(store: Store, now: float = NOW, **chosen: Any) -> list[StoredGrant]:
    return [*await store.elsewhere.search(Selection(**chosen), now=now)]


async def test_a_grant_is_found_by_every_process_as_it_was_stored(store: Store) -> None:
    bare = described("bare", client_name=None, subject_hash=None, session_hash=None, scope=None, address=None)
    for grant in (described(), bare._replace(token_hash=None)):
        await store.here.add(grant, expires_at=NOW + LIFETIME)
    assert await everyone(store) == [bare._replace(token_hash=None), described()]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({}, "abc"),
        ({"grant_id": "b"}, "b"),
        ({"grant_id": "x"}, ""),
        ({"subject_hash": "alice"}, "ab"),
        ({"client_id": "one"}, "ac"),
        ({"session_hash": "first"}, "a"),
        ({"issued_before": NOW}, "bc"),
        ({"issued_before": NOW - 10}, "c"),
        ({"subject_hash": "alice", "client_id": "one"}, "a"),
        ({"subject_hash": "alice", "session_hash": "second"}, "b"),
        ({"subject_hash": "carol"}, ""),
        ({"grant_id": "a", "subject_hash": "bob"}, ""),
    ],
)
async def test_a_selection_has_the_grants_that_agree_with_all_of_it(
    store: Store, chosen: dict[str, Any], found: str
) -> None:
    for grant in (
        described("a", subject_hash="alice", client_id="one", session_hash="first"),
        described("b", subject_hash="alice", client_id="two", session_hash="second", issued_at=int(NOW) - 10),
        described("c", subject_hash="bob", client_id="one", session_hash=None, issued_at=int(NOW) - 20),
    ):
        await store.here.add(grant, expires_at=NOW + LIFETIME)
    assert "".join(sorted(grant.grant_id for grant in await everyone(store, **chosen))) == found


async def test_a_refresh_notes_the_hour_and_the_newest_token_and_postpones_the_end(store: Store) -> None:
    issued_at = int(NOW) // 3600 * 3600 + 1800
    await store.here.add(described(issued_at=issued_at, used_at=issued_at), expires_at=issued_at + 86_400)
    hours = {0.25: issued_at, 1: issued_at + 1800, 1.25: issued_at + 1800, 20: issued_at + 70_200}
    for generation, (hour, used_at) in enumerate(hours.items()):
        now = issued_at + hour * 3600
        assert await store.take(generation, now) is RefreshLease.YOURS
        await store.here.finish("grant", generation, "the answer", now=now, token_hash=f"token {generation}")
        (found,) = await everyone(store, now)
        assert found == described(issued_at=issued_at, used_at=used_at, token_hash=f"token {generation}")
    assert await everyone(store, issued_at + LIFETIME) != []
    assert await everyone(store, issued_at + 2 * LIFETIME) == []


async def test_those_used_last_come_first(store: Store) -> None:
    for grant_id in "abc":
        used_at = int(NOW) - ord(grant_id)
        await store.here.add(described(grant_id, issued_at=used_at, used_at=used_at), expires_at=NOW + LIFETIME)
    await store.here.take_lease("c", 0, now=NOW + 7200, until=NOW, expires_at=NOW + LIFETIME)
    assert [grant.grant_id for grant in await everyone(store)] == ["c", "a", "b"]


@pytest.mark.parametrize("ends_by", ["revocation", "reuse"])
async def test_nobody_is_listed_by_a_grant_that_is_revoked(store: Store, ends_by: str) -> None:
    await store.here.add(described(), expires_at=NOW + LIFETIME)
    if ends_by == "revocation":
        await store.here.revoke("grant", expires_at=NOW + LIFETIME)
    else:
        await store.take(0)
        await store.here.finish("grant", 0, "the answer", now=NOW)
        assert await store.take(0, NOW + GRACE + 1) is RefreshLease.SPENT
    for chosen in (
        Selection(),
        Selection("grant"),
        Selection(subject_hash="a user"),
        Selection(session_hash="a session"),
    ):
        assert await store.elsewhere.search(chosen, now=NOW) == []
    await store.here.add(described(), expires_at=NOW + LIFETIME)
    assert await everyone(store) == []
    assert await store.take(0) is RefreshLease.REVOKED


async def test_a_grant_that_is_only_known_by_its_refresh_tokens_is_not_listed(store: Store) -> None:
    """One from before there were such rows, or from before the store lost its data."""
    await store.take(3)
    assert await everyone(store) == []


async def test_of_one_user_too_many_grants_end_with_the_one_that_was_used_longest_ago(store: Store) -> None:
    for number in range(PER_SUBJECT):
        await store.here.add(described(str(number)), expires_at=NOW + LIFETIME + number)
        await store.here.add(described(f"nobody's {number}", subject_hash=None), expires_at=NOW + LIFETIME)
    await store.here.take_lease("0", 0, now=NOW + 3600, until=NOW, expires_at=NOW + 2 * LIFETIME)
    await store.here.add(described("one more"), expires_at=NOW + 2 * LIFETIME)
    kept = {grant.grant_id for grant in await everyone(store, subject_hash="a user")}
    assert kept == {str(number) for number in range(PER_SUBJECT) if number != 1} | {"one more"}
    assert len(await everyone(store)) == 2 * PER_SUBJECT
    lease = await store.here.take_lease("1", 0, now=NOW, until=NOW, expires_at=NOW + LIFETIME)
    assert lease is RefreshLease.REVOKED


async def test_of_fifty_first_uses_of_a_grant_one_is_the_first(store: Store) -> None:
    await store.here.add(described("a"), expires_at=NOW + LIFETIME)
    found: list[str | None] = []

    async def use(number: int) -> None:
        found.append(await (store.elsewhere if number % 2 else store.here).first_use("a"))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(use, number)
    assert [family for family in found if family] == [described("a").client_family]
    assert await everyone(store) == [described("a")]


async def test_a_grant_that_is_unknown_or_revoked_or_was_refreshed_only_has_no_first_use(store: Store) -> None:
    assert await store.here.first_use("a") is None
    await store.here.add(described("a"), expires_at=NOW + LIFETIME)
    await store.here.revoke("a", expires_at=NOW + LIFETIME)
    assert await store.here.first_use("a") is None
    await store.take(0)
    assert await store.here.first_use("grant") is None, "this store did not see its login"


async def test_a_grant_that_was_refreshed_before_it_was_used_still_has_its_first_use(store: Store) -> None:
    await store.here.add(described("grant"), expires_at=NOW + LIFETIME)
    await store.take(0)
    await store.here.finish("grant", 0, "answer", now=NOW)
    assert await store.here.first_use("grant") == described("grant").client_family
    assert await store.here.first_use("grant") is None


# SQLite


async def test_the_file_of_an_earlier_version_gets_the_columns_it_has_not(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "grants.db") as connection:
        connection.execute(
            "CREATE TABLE grants (grant_id TEXT PRIMARY KEY, generation INTEGER NOT NULL, taken_until REAL, "
            "answered_at REAL, answer TEXT, revoked INTEGER NOT NULL DEFAULT 0, expires_at REAL NOT NULL) "
            "STRICT, WITHOUT ROWID"
        )
        connection.execute("INSERT INTO grants (grant_id, generation, expires_at) VALUES ('grant', 2, ?)", (2**33,))
    connection.close()
    async with in_sqlite(tmp_path) as store:
        assert await store.take(1) is RefreshLease.SPENT
        await store.here.add(described("new"), expires_at=NOW + LIFETIME)
        assert await everyone(store) == [described("new")]
        assert await store.here.first_use("grant") is None, "it may have been used before"


def rows(path: Path) -> set[str]:
    with sqlite3.connect(path / "grants.db") as connection:
        found = {row[0] for row in connection.execute("SELECT grant_id FROM grants")}
    connection.close()
    return found


async def test_expired_grants_are_forgotten_in_passing_a_hundred_at_a_time(sqlite_store: Store, tmp_path: Path) -> None:
    for number in range(150):
        await sqlite_store.here.revoke(f"old {number}", expires_at=NOW - 1)
    await sqlite_store.here.revoke("young", expires_at=NOW + 1)
    await sqlite_store.take(0)
    assert len(rows(tmp_path)) == 50 + 2
    await sqlite_store.take(1)
    assert rows(tmp_path) == {"young", "grant"}


async def test_a_revoked_grant_is_remembered_as_long_as_its_youngest_refresh_token_lasts(
    sqlite_store: Store, tmp_path: Path
) -> None:
    await sqlite_store.take(0)
    await sqlite_store.here.revoke("grant", expires_at=NOW + 1 + LIFETIME)
    await sqlite_store.here.take_lease("another", 0, now=NOW + LIFETIME + 0.5, until=0, expires_at=NOW * 2)
    assert rows(tmp_path) == {"grant", "another"}


async def test_a_store_that_is_gone_says_so_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/folder/grants.db")
    store = SqliteGrantStore(database)
    for attempt in (
        lambda: store.take_lease("grant", 0, now=NOW, until=NOW, expires_at=NOW),
        lambda: store.finish("grant", 0, "answer", now=NOW),
        lambda: store.abandon("grant", 0),
        lambda: store.revoke("grant", expires_at=NOW),
        lambda: store.add(described(), expires_at=NOW),
        lambda: store.search(Selection(), now=NOW),
        lambda: store.first_use("grant"),
    ):
        with pytest.raises(StoreError):
            await attempt()
    (tmp_path / "folder").mkdir()
    assert await store.take_lease("grant", 0, now=NOW, until=NOW, expires_at=NOW) is RefreshLease.YOURS
    await database.aclose()


async def test_a_turn_waits_for_another_processs_write(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/grants.db")
    store = SqliteGrantStore(database)
    await store.abandon("nothing", 0)  # the file is there
    other = sqlite3.connect(tmp_path / "grants.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    turns: list[RefreshLease | str] = []

    async def ask() -> None:
        turns.append(await store.take_lease("grant", 0, now=NOW, until=NOW, expires_at=NOW))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert turns == []
        other.execute("COMMIT")
    assert turns == [RefreshLease.YOURS]
    other.close()
    await database.aclose()


# Redis


@pytest.mark.real_parts("redis")
async def test_redis_forgets_a_grant_and_its_answer_by_itself(redis_store: Store, empty_redis: RedisServer) -> None:
    now = time()  # by which Redis counts
    await redis_store.take(0, now)
    await redis_store.here.finish("grant", 0, "the answer", now=now)
    await redis_store.here.revoke("another", expires_at=now + 1000)
    lifetimes = {name: int(str(empty_redis.ask("TTL", f"seed-oauth:grant:{name}"))) for name in (
        "{grant}", "{grant}:answer", "{another}"
    )}  # fmt: skip
    assert LIFETIME - PATIENCE < lifetimes["{grant}"] <= LIFETIME + 1
    assert 0 < lifetimes["{grant}:answer"] <= GRACE + 1
    assert 1000 - PATIENCE < lifetimes["{another}"] <= 1001


@pytest.mark.real_parts("redis")
async def test_a_revoked_grant_keeps_no_answer(redis_store: Store, empty_redis: RedisServer) -> None:
    await redis_store.take(0)
    await redis_store.here.finish("grant", 0, "the answer", now=NOW)
    await redis_store.elsewhere.revoke("grant", expires_at=NOW + LIFETIME)
    assert empty_redis.ask("KEYS", "*") == [b"seed-oauth:grant:{grant}"]
