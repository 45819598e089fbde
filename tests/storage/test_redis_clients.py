"""What is Redis's own of the store of clients, and of the assertions that were used."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from seed_oauth.clients import UNUSED_LIFETIME, Client
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.assertions import RedisUsedAssertions
from seed_oauth.storage.redis.clients import RedisClientStore
from seed_oauth.storage.redis.database import RedisDatabase
from tests.cli.test_cli import PATIENCE, free_port
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

DAY = 86_400
KEY = "seed-oauth:{clients}"


@pytest.fixture
async def database(empty_redis: RedisServer) -> AsyncIterator[RedisDatabase]:
    opened = RedisDatabase(empty_redis.url)
    yield opened
    await opened.aclose()


def client(client_id: str) -> Client:
    return Client(client_id=client_id, issued_at=1, redirect_uris=())


def lifetime(server: RedisServer, key: str) -> int:
    return int(str(server.ask("TTL", key)))


@pytest.mark.real_parts("redis")
async def test_redis_forgets_a_client_by_itself(database: RedisDatabase, empty_redis: RedisServer) -> None:
    """PROTOCOL R6."""
    store = RedisClientStore(database, client_days=10)
    await store.add(client("a"))
    assert UNUSED_LIFETIME - PATIENCE < lifetime(empty_redis, f"{KEY}:client:a") <= UNUSED_LIFETIME
    await store.mark_used("a")
    assert 11 * DAY - PATIENCE < lifetime(empty_redis, f"{KEY}:client:a") <= 11 * DAY


@pytest.mark.real_parts("redis")
async def test_a_registration_clears_away_the_client_ids_of_those_that_expired(
    database: RedisDatabase, empty_redis: RedisServer
) -> None:
    now = [1_800_000_000.0]
    store = RedisClientStore(database, client_days=10, now=lambda: now[0])
    for number in range(250):
        await store.add(client(str(number)))
    await store.mark_used("0")
    now[0] += 12 * DAY
    for name, left in (("new", 51), ("newer", 2)):  # a hundred of each kind at once
        await store.add(client(name))
        assert empty_redis.ask("ZCARD", f"{KEY}:all") == left
    assert empty_redis.ask("ZRANGE", f"{KEY}:unused", 0, -1) == [b"new", b"newer"]
    assert empty_redis.ask("EXISTS", f"{KEY}:client:0", f"{KEY}:client:1") == 0


@pytest.mark.real_parts("redis")
async def test_a_client_that_redis_forgot_is_not_found_though_its_client_id_is_there(
    database: RedisDatabase, empty_redis: RedisServer
) -> None:
    store = RedisClientStore(database)
    await store.add(client("a"))
    empty_redis.ask("DEL", f"{KEY}:client:a")
    assert await store.get("a") is None
    assert (await store.search("", offset=0, limit=10)).total == 0


@pytest.mark.real_parts("redis")
async def test_who_can_write_to_redis_makes_no_client_a_trusted_one(
    database: RedisDatabase, empty_redis: RedisServer
) -> None:
    store = RedisClientStore(database)
    await store.add(client("a"))
    stored = empty_redis.ask("HGET", f"{KEY}:client:a", "client")
    assert isinstance(stored, bytes)
    written = orjson.loads(stored)
    assert not {"trusted", "preregistered", "scope"} & written.keys()
    forged = orjson.dumps({**written, "trusted": True, "preregistered": True, "scope": "mail"}).decode()
    empty_redis.ask("HSET", f"{KEY}:client:a", "client", forged)
    assert await store.get("a") == client("a")


@pytest.mark.real_parts("redis")
async def test_every_key_says_whose_it_is(database: RedisDatabase, empty_redis: RedisServer) -> None:
    store = RedisClientStore(database)
    await store.add(client("a"))
    await store.check()
    await RedisUsedAssertions(database).use("a", "1", expires_at=100, now=0)
    keys = empty_redis.ask("KEYS", "*")
    assert isinstance(keys, list)
    assert len(keys) == 5
    assert all(key.startswith(b"seed-oauth:") for key in keys)


@pytest.mark.real_parts("redis")
async def test_a_redis_that_is_full_cannot_answer(empty_redis: RedisServer, database: RedisDatabase) -> None:
    store = RedisClientStore(database)
    await store.add(client("a"))
    empty_redis.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreError, match="its memory is full"):
            await store.check()
        with pytest.raises(StoreError, match="its memory is full"):
            await store.add(client("b"))
        assert await store.get("a") is not None  # those that are there go on
    finally:
        empty_redis.ask("CONFIG", "SET", "maxmemory", 0)
    await store.check()


async def test_a_redis_that_is_not_there_is_a_store_error() -> None:
    store = RedisClientStore(RedisDatabase(f"redis://127.0.0.1:{free_port()}"))
    for attempt in (store.check(), store.get("a"), store.add(client("a")), store.mark_used("a"), store.remove("a")):
        with pytest.raises(StoreError, match=r"^Connection refused$"):
            await attempt
    await store.aclose()


@pytest.mark.real_parts("redis")
async def test_of_many_that_use_an_assertion_at_once_one_is_first(empty_redis: RedisServer) -> None:
    """THREATS 3: also across processes."""
    databases = [RedisDatabase(empty_redis.url) for _ in range(2)]
    used = [RedisUsedAssertions(database) for database in databases]
    firsts = await asyncio.gather(
        *(used[number % 2].use("a", "1", expires_at=660, now=0) for number in range(50)),
    )
    assert sorted(firsts) == [False] * 49 + [True]
    assert await used[0].use("b", "1", expires_at=660, now=0)
    assert await used[1].use("a", "2", expires_at=660, now=0)
    keys = empty_redis.ask("KEYS", "seed-oauth:assertion:*")
    assert isinstance(keys, list)
    assert {660 - PATIENCE < lifetime(empty_redis, key.decode()) <= 661 for key in keys} == {True}
    for database in databases:
        await database.aclose()


@pytest.mark.real_parts("redis")
async def test_whoever_can_write_to_redis_cannot_vouch_for_a_client(
    database: RedisDatabase, empty_redis: RedisServer
) -> None:
    """Nor give it keys: only the settings say which clients are trusted."""
    store = RedisClientStore(database)
    await store.add(client("a"))
    written = orjson.loads(empty_redis.ask("HGET", f"{KEY}:client:a", "client"))
    forged = {**written, "trusted": True, "jwks": {"keys": []}, "jwks_uri": "https://evil.example/", "unheard_of": 1}
    empty_redis.ask("HSET", f"{KEY}:client:a", "client", orjson.dumps(forged).decode())
    assert await store.get("a") == client("a")
