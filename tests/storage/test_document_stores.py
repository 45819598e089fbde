"""What every store of archived documents does, held for those there are."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from seed_oauth.clients.archive import DocumentStore
from seed_oauth.storage.redis.database import RedisDatabase
from seed_oauth.storage.redis.documents import RedisDocumentStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.documents import SqliteDocumentStore

pytestmark = pytest.mark.anyio

URL = "https://app.example/client.json"

OpenStore = Callable[[], DocumentStore]
"""Opens a store of at most three documents once more, as another process does."""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    redis_url = request.getfixturevalue("empty_redis").url if request.param == "redis" else ""
    opened: list[Database | RedisDatabase] = []

    def open_one() -> DocumentStore:
        store: DocumentStore
        if redis_url:
            opened.append(redis := RedisDatabase(redis_url))
            store = RedisDocumentStore(redis, 3)
        else:
            opened.append(sqlite := Database(f"sqlite:///{tmp_path}/documents.db"))
            store = SqliteDocumentStore(sqlite, 3)
        return store

    yield open_one
    for database in opened:
        await database.aclose()


async def test_a_document_is_there_after_a_restart(open_store: OpenStore) -> None:
    assert await open_store().load(URL) is None
    await open_store().save(URL, "sealed", now=1)
    assert await open_store().load(URL) == "sealed"
    assert await open_store().load(f"{URL}/") is None


async def test_a_document_is_replaced(open_store: OpenStore) -> None:
    store = open_store()
    await store.save(URL, "old", now=1)
    await store.save(URL, "new", now=2)
    assert await store.load(URL) == "new"


async def test_beyond_the_capacity_the_document_saved_longest_ago_is_deleted(open_store: OpenStore) -> None:
    store = open_store()
    for number in range(3):
        await store.save(f"{URL}?{number}", "sealed", now=number)
    await store.save(f"{URL}?0", "again", now=3)
    await store.save(f"{URL}?3", "sealed", now=4)
    assert [await store.load(f"{URL}?{number}") for number in range(4)] == ["again", None, "sealed", "sealed"]
