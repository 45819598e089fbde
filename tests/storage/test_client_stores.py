"""What every store of registered clients does, held for those there are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.clients import (
    PROTECTED,
    Client,
    QuotaExhaustedError,
    RegisteredClients,
    hash_secret,
    new_client_id,
    new_client_secret,
)
from seed_oauth.clients.cached import CachedClientStore
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.clients import RedisClientStore
from seed_oauth.storage.redis.database import RedisDatabase
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database

pytestmark = pytest.mark.anyio

HOUR = 3600
DAY = 86_400

CLIENT = Client(
    client_id="a",
    issued_at=7,
    redirect_uris=("https://app.example/", "cursor://x"),
    token_endpoint_auth_method="client_secret_post",
    secret_hash=hash_secret("s"),
    metadata={"client_name": "Ünï ✓", "contacts": ["me"]},
)

OpenStore = Callable[..., RegisteredClients]
"""Opens a store once more, as another process does: with `client_days`, `quota` and `now`, where they matter."""


class Clock:
    """What time it is, in seconds since the epoch."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["file", "memory", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[OpenStore]:
    in_memory = Database("sqlite:///:memory:")
    redis_url = request.getfixturevalue("empty_redis").url if request.param == "redis" else ""
    opened: list[RegisteredClients] = []

    def open_one(**options: float) -> RegisteredClients:
        store: RegisteredClients
        if request.param == "redis":
            store = RedisClientStore(RedisDatabase(redis_url), **{"now": clock, **options})  # type: ignore[arg-type]
        else:
            database = in_memory if request.param == "memory" else Database(f"sqlite:///{tmp_path}/clients.db")
            store = SqliteClientStore(database, **{"now": clock, **options})  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
def store(open_store: OpenStore) -> RegisteredClients:
    return open_store()


def named(client_id: str, **metadata: object) -> Client:
    return Client(client_id=client_id, issued_at=1, redirect_uris=(), metadata=metadata)


async def all_of(store: RegisteredClients, name: str = "", *, offset: int = 0, limit: int = 100) -> list[str]:
    page = await store.search(name, offset=offset, limit=limit)
    return [stored.client.client_id for stored in page.clients]


async def test_a_client_comes_back_as_it_was_added(store: RegisteredClients) -> None:
    await store.add(CLIENT)
    assert await store.get("a") == CLIENT
    assert await store.get("b") is None


async def test_a_client_that_is_added_is_seen_by_other_processes(open_store: OpenStore) -> None:
    await open_store().add(CLIENT)
    assert await open_store().get("a") == CLIENT


async def test_an_empty_store_can_answer(store: RegisteredClients) -> None:
    assert await store.check() == 0
    assert await store.get("a") is None
    assert await all_of(store) == []


async def test_a_check_tells_how_many_clients_there_are(store: RegisteredClients) -> None:
    for client_id in ("a", "b"):
        await store.add(named(client_id))
    assert await store.check() == 2
    await store.remove("a")
    assert await store.check() == 1


async def test_a_client_id_is_never_given_twice(store: RegisteredClients) -> None:
    await store.add(CLIENT)
    with pytest.raises(StoreError):
        await store.add(named("a"))
    assert await store.get("a") == CLIENT


async def test_a_client_that_never_got_a_token_is_forgotten_after_a_day(store: RegisteredClients, clock: Clock) -> None:
    """PROTOCOL R6, THREATS 10: a flood of registrations leaves nothing behind."""
    await store.add(CLIENT)
    clock.now += DAY
    assert await store.get("a") is not None  # to look it up is not to use it
    stored = await store.look_up("a")
    assert stored is not None
    assert stored.last_used_at is None
    clock.now += 1
    assert await store.get("a") is None
    assert await store.look_up("a") is None
    assert not await store.remove("a")
    assert await all_of(store) == []


async def test_a_client_that_is_not_used_is_forgotten_and_one_that_is_lives_on(
    open_store: OpenStore, clock: Clock
) -> None:
    """PROTOCOL R6; the last use is known to a day, so never sooner than the setting says."""
    store = open_store(client_days=10)
    for client_id in ("daily", "once"):
        await store.add(named(client_id))
        await store.mark_used(client_id)
    begun = clock.now
    for day in range(11):
        clock.now = begun + day * DAY
        assert await store.get("daily") is not None
        await store.mark_used("daily")
    clock.now = begun + 10.9 * DAY
    stored = await store.look_up("once")
    assert stored is not None
    assert stored.last_used_at == begun
    clock.now = begun + 11.1 * DAY
    assert await store.get("once") is None
    assert not await store.remove("once")
    assert await store.get("daily") is not None
    clock.now = begun + 100 * DAY
    assert await store.get("daily") is None


async def test_a_client_that_is_not_there_cannot_be_used(store: RegisteredClients) -> None:
    await store.mark_used("nobody")
    assert await store.get("nobody") is None
    assert await all_of(store) == []


async def test_a_short_memory_does_not_prolong_a_clients_life(open_store: OpenStore, clock: Clock) -> None:
    """PROTOCOL R6."""
    cached = CachedClientStore(open_store(client_days=10), clock=clock)
    await cached.add(CLIENT)
    await cached.mark_used("a")
    assert await cached.get("a") is not None
    clock.now += 11.1 * DAY
    assert await cached.get("a") is None


async def test_a_flood_of_registrations_puts_out_unused_clients_alone_the_oldest_first(
    open_store: OpenStore, clock: Clock
) -> None:
    """THREATS 10: the store stays under its quota, and who logs in is not put out."""
    store = open_store(quota=5)
    for client_id in ("used", "old", "younger"):
        await store.add(named(client_id))
        clock.now += 1
    await store.mark_used("used")
    clock.now += PROTECTED
    for number in range(2):
        await store.add(named(f"flood {number}"))
    await store.add(named("flood 2"))
    assert await store.get("old") is None
    assert sorted(await all_of(store)) == ["flood 0", "flood 1", "flood 2", "used", "younger"]
    await store.add(named("flood 3"))
    assert sorted(await all_of(store)) == ["flood 0", "flood 1", "flood 2", "flood 3", "used"]


async def test_a_new_client_keeps_its_place_for_the_time_of_its_first_login(
    open_store: OpenStore, clock: Clock
) -> None:
    """THREATS 10."""
    store = open_store(quota=2)
    for client_id in ("a", "b"):
        await store.add(named(client_id))
    clock.now += PROTECTED
    with pytest.raises(QuotaExhaustedError):
        await store.add(named("c"))
    assert sorted(await all_of(store)) == ["a", "b"]
    await store.mark_used("a")
    clock.now += 1
    await store.add(named("c"))
    assert sorted(await all_of(store)) == ["a", "c"]
    await store.mark_used("c")
    clock.now += PROTECTED + 1
    with pytest.raises(QuotaExhaustedError):
        await store.add(named("d"))


async def logs_in(store: RegisteredClients, client_id: str, subject: str | None, clock: Clock) -> None:
    await store.add(named(client_id))
    await store.mark_used(client_id, subject)
    clock.now += DAY


async def test_of_too_many_clients_of_one_user_the_one_used_longest_ago_is_deleted(
    open_store: OpenStore, clock: Clock
) -> None:
    """THREATS 10: nobody fills the store by logging in."""
    store = open_store(per_subject=3)
    for client_id in ("a", "b", "c"):
        await logs_in(store, client_id, "mallory", clock)
    await logs_in(store, "of somebody else", "alice", clock)
    await logs_in(store, "of nobody known", None, clock)
    await store.mark_used("a")  # by a refresh, which tells no user
    clock.now += DAY
    await logs_in(store, "d", "mallory", clock)
    assert sorted(await all_of(store)) == ["a", "c", "d", "of nobody known", "of somebody else"]
    await logs_in(store, "e", "mallory", clock)
    assert sorted(await all_of(store)) == ["a", "d", "e", "of nobody known", "of somebody else"]
    assert (await open_store().get("e")) is not None


async def test_logins_of_one_user_leave_room_for_registrations(open_store: OpenStore, clock: Clock) -> None:
    """Six logins used to fill a quota of six, and nobody could register any more."""
    store = open_store(quota=6)
    for number in range(6):
        await logs_in(store, f"login {number}", "mallory", clock)
    await store.add(named("somebody new"))
    assert await all_of(store) == ["somebody new", "login 5", "login 4", "login 3"]


async def test_the_client_that_is_used_now_stays_whatever_the_clock_says(open_store: OpenStore, clock: Clock) -> None:
    store = open_store(per_subject=2)
    for client_id in ("z", "y", "x", "a"):
        await store.add(named(client_id))
        await store.mark_used(client_id, "mallory")
        assert await store.get(client_id) is not None
    clock.now -= HOUR
    await store.add(named("b"))
    await store.mark_used("b", "mallory")
    assert await store.get("b") is not None
    assert len(await all_of(store)) == 2


async def test_a_client_belongs_to_the_first_user_who_logs_in_with_it(open_store: OpenStore, clock: Clock) -> None:
    """Or else whoever logs in with the client of a whole team could have it deleted."""
    store = open_store(per_subject=1)
    await logs_in(store, "of a team", "alice", clock)
    await store.mark_used("of a team", "mallory")
    await logs_in(store, "another", "mallory", clock)
    assert sorted(await all_of(store)) == ["another", "of a team"]


async def test_clients_that_are_gone_do_not_count(open_store: OpenStore, clock: Clock) -> None:
    store = open_store(per_subject=2, client_days=10)
    await logs_in(store, "a", "mallory", clock)
    await logs_in(store, "b", "mallory", clock)
    assert await store.remove("b")
    await logs_in(store, "c", "mallory", clock)
    assert sorted(await all_of(store)) == ["a", "c"]


async def test_a_client_that_is_removed_makes_room(open_store: OpenStore) -> None:
    store = open_store(quota=1)
    await store.add(CLIENT)
    with pytest.raises(QuotaExhaustedError):
        await store.add(named("b"))
    assert await store.remove("a")
    await store.add(named("b"))


async def test_a_quota_that_was_lowered_is_reached_step_by_step(open_store: OpenStore, clock: Clock) -> None:
    generous = open_store(quota=1000)
    for number in range(250):
        await generous.add(named(str(number)))
    clock.now += PROTECTED + 1
    strict = open_store(quota=10)
    for refused in (True, True, False):
        if refused:
            with pytest.raises(QuotaExhaustedError):
                await strict.add(named("new"))
        else:
            await strict.add(named("new"))
    assert (await strict.search("", offset=0, limit=1)).total == 10


async def test_many_that_register_at_once_stay_within_the_quota(open_store: OpenStore, clock: Clock) -> None:
    """THREATS 10: also across processes."""
    stores = [open_store(quota=20) for _ in range(4)]
    for number in range(15):
        await stores[0].add(named(f"old {number}"))
    clock.now += PROTECTED + 1
    await asyncio.gather(*(store.add(named(f"{at} {n}")) for at, store in enumerate(stores) for n in range(5)))
    found = await all_of(stores[0])
    assert len(found) == 20
    assert not [client_id for client_id in found if client_id.startswith("old")]


async def test_clients_are_found_by_name_those_used_last_first(store: RegisteredClients, clock: Clock) -> None:
    for number, name in enumerate(["Cursor", "Claude Code", "claude.ai", "100% _Tool_", None]):
        await store.add(named(str(number), **({"client_name": name} if name else {})))
        clock.now += HOUR
    assert await all_of(store) == ["4", "3", "2", "1", "0"]
    assert await all_of(store, offset=1, limit=2) == ["3", "2"]
    assert await all_of(store, "claude") == ["2", "1"]
    assert await all_of(store, "0% _") == ["3"]  # taken as it is written
    assert await all_of(store, "'") == []
    assert (await store.search("claude", offset=1, limit=1)).total == 2
    await store.mark_used("1")
    assert await all_of(store, "claude") == ["1", "2"]


async def test_a_long_list_is_found_whole(store: RegisteredClients) -> None:
    for number in range(1200):
        await store.add(named(str(number)))
    page = await store.search("", offset=1100, limit=1000)
    assert (len(page.clients), page.total) == (100, 1200)


async def test_a_client_that_is_removed_is_gone(store: RegisteredClients) -> None:
    await store.add(CLIENT)
    assert await store.remove("a")
    assert await store.get("a") is None
    assert not await store.remove("a")


@given(st.text())
def test_only_the_very_secret_opens(guess: str) -> None:
    assert not CLIENT.has_secret(guess + "x")
    assert CLIENT.has_secret("s")


def test_a_client_without_a_secret_has_none_that_opens() -> None:
    assert not Client(client_id="p", issued_at=1, redirect_uris=()).has_secret("")


def test_identifiers_and_secrets_are_new_each_time() -> None:
    assert len({new_client_id() for _ in range(1000)}) == 1000
    assert len({new_client_secret() for _ in range(1000)}) == 1000


def test_a_client_id_is_never_taken_for_an_option_on_the_command_line() -> None:
    assert all(new_client_id().isalnum() for _ in range(1000))
