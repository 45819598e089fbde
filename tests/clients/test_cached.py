import pytest

from seed_oauth.clients import Client
from seed_oauth.clients.cached import CAPACITY, LIFETIME, MARKED_EVERY, CachedClientStore
from seed_oauth.outcomes.errors import StoreError

pytestmark = pytest.mark.anyio


class CountingStore:
    """A `ClientStore` that knows every client it was given, and counts what it is asked."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.asked: list[str] = []
        self.is_down = False

    async def get(self, client_id: str) -> Client | None:
        self.asked.append(client_id)
        return self.clients.get(client_id)

    async def add(self, client: Client) -> None:
        self.clients[client.client_id] = client

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        self.asked.append(f"mark {client_id}")
        if self.is_down:
            raise StoreError("ConnectionError")

    async def check(self) -> None:
        self.asked.append("check")

    async def aclose(self) -> None:
        self.asked.append("aclose")


def client(client_id: str) -> Client:
    return Client(client_id=client_id, issued_at=1, redirect_uris=())


async def test_a_client_is_read_once_in_its_lifetime_and_then_anew() -> None:
    store, now = CountingStore(), [0.0]
    cached = CachedClientStore(store, clock=lambda: now[0])
    await cached.add(client("a"))
    for _ in range(3):
        assert await cached.get("a") == client("a")
    assert store.asked == ["a"]

    del store.clients["a"]
    now[0] = LIFETIME - 0.001
    assert await cached.get("a") is not None
    now[0] = LIFETIME
    assert await cached.get("a") is None


async def test_a_client_that_is_not_there_yet_is_found_as_soon_as_it_is() -> None:
    store = CountingStore()
    cached = CachedClientStore(store)
    assert await cached.get("a") is None
    await store.add(client("a"))
    assert await cached.get("a") == client("a")


async def test_a_flood_of_clients_does_not_fill_the_memory() -> None:
    store = CountingStore()
    cached = CachedClientStore(store)
    for number in range(CAPACITY + 1):
        await store.add(client(str(number)))
        await cached.get(str(number))
    store.asked.clear()
    assert await cached.get(str(CAPACITY)) is not None
    assert store.asked == []
    assert await cached.get("0") is not None
    assert store.asked == ["0"]


async def test_health_and_shutdown_go_to_the_store_itself() -> None:
    store = CountingStore()
    cached = CachedClientStore(store)
    await cached.check()
    await cached.aclose()
    assert store.asked == ["check", "aclose"]


async def test_that_a_client_is_used_is_noted_once_a_day() -> None:
    store, now = CountingStore(), [0.0]
    cached = CachedClientStore(store, clock=lambda: now[0])
    for now[0] in (0, 1, MARKED_EVERY - 0.001):
        await cached.mark_used("a")
    await cached.mark_used("b")
    assert store.asked == ["mark a", "mark b"]
    now[0] = MARKED_EVERY
    await cached.mark_used("a")
    assert store.asked == ["mark a", "mark b", "mark a"]


async def test_what_could_not_be_noted_fails_nobody_and_is_noted_with_the_next_use() -> None:
    store = CountingStore()
    cached = CachedClientStore(store)
    store.is_down = True
    await cached.mark_used("a")
    store.is_down = False
    for _ in range(3):
        await cached.mark_used("a")
    assert store.asked == ["mark a", "mark a"]


async def test_many_clients_that_are_used_do_not_fill_the_memory() -> None:
    store = CountingStore()
    cached = CachedClientStore(store)
    for number in range(CAPACITY + 1):
        await cached.mark_used(str(number))
    store.asked.clear()
    await cached.mark_used(str(CAPACITY))
    assert store.asked == []
    await cached.mark_used("0")
    assert store.asked == ["mark 0"]
