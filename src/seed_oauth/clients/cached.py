"""A short memory in front of a store: a client that is logging in is looked up several times in a row, and used."""

from collections.abc import Callable
from time import monotonic

from seed_oauth.clients import Client, ClientStore
from seed_oauth.errors import StoreError

LIFETIME = 5.0
"""Seconds after which a client is read anew, so that one revoked elsewhere is soon refused here."""

CAPACITY = 10_000
"""Clients remembered at most; then all are forgotten, which costs one read each, and one write of those in use."""

MARKED_EVERY = 86_400.0
"""Seconds after which it is noted again that a client is used."""


class CachedClientStore:
    """A `ClientStore` that remembers the clients it found, for `LIFETIME` seconds.

    Only what was found is remembered: a client registered in another process is seen at once.
    """

    def __init__(self, store: ClientStore, clock: Callable[[], float] = monotonic) -> None:
        """`clock` counts seconds and never goes back."""
        self._store = store
        self._clock = clock
        self._found: dict[str, tuple[Client, float]] = {}
        self._marked: dict[str, float] = {}

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered."""
        remembered = self._found.get(client_id)
        now = self._clock()
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        client = await self._store.get(client_id)
        if client is not None:
            if len(self._found) >= CAPACITY:
                self._found.clear()
            self._found[client_id] = client, now + LIFETIME
        return client

    async def add(self, client: Client) -> None:
        """Keep a new client."""
        await self._store.add(client)

    async def mark_used(self, client_id: str) -> None:
        """Note that the client got a token, at most once a day. Nobody's login fails because that cannot be written."""
        now = self._clock()
        marked = self._marked.get(client_id)
        if marked is not None and now < marked + MARKED_EVERY:
            return
        try:
            await self._store.mark_used(client_id)
        except StoreError:
            return  # it is noted with the next use
        if len(self._marked) >= CAPACITY:
            self._marked.clear()
        self._marked[client_id] = now

    async def check(self) -> None:
        """Return when the store itself can answer."""
        await self._store.check()

    async def aclose(self) -> None:
        """Let go of the store's connections."""
        await self._store.aclose()
