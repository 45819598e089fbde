"""A short-lived cache in front of a store: a login looks its client up several times in a row."""

from collections.abc import Callable
from time import monotonic

from seed_oauth.clients import Client, ClientStore
from seed_oauth.outcomes.errors import StoreError

LIFETIME = 5.0
"""Seconds after which a client is read again, so that one deleted elsewhere is soon refused here."""

CAPACITY = 10_000
"""Clients cached at most; then the cache is cleared, which costs one read each, and one write for those in use."""

MARKED_EVERY = 86_400.0
"""Seconds after which the use of a client is recorded again."""


class CachedClientStore:
    """A `ClientStore` that caches the clients it found, for `LIFETIME` seconds.

    Misses are not cached, so a client that registers with another process is known at once.
    """

    def __init__(self, store: ClientStore, clock: Callable[[], float] = monotonic) -> None:
        """`clock` counts seconds and never goes back."""
        self._store = store
        self._clock = clock
        self._found: dict[str, tuple[Client, float]] = {}
        self._marked: dict[str, float] = {}
        self.check_seconds: dict[str, float] = {}
        """How long the last check took, as a gauge without a label; empty if it failed."""
        self.registered: dict[str, float] = {}
        """How many clients there were at the last check, in the same form; empty if that is not known."""

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
        """Add a new client."""
        await self._store.add(client)

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        """Record that the client got a token, at most once a day. A login does not fail if that cannot be written."""
        now = self._clock()
        marked = self._marked.get(client_id)
        if marked is not None and now < marked + MARKED_EVERY:
            return
        try:
            await self._store.mark_used(client_id, subject)
        except StoreError:
            return  # the next use is recorded instead
        if len(self._marked) >= CAPACITY:
            self._marked.clear()
        self._marked[client_id] = now

    async def check(self) -> int | None:
        """Return if the store works: the number of registered clients, or None if it is not known."""
        started = self._clock()
        try:
            registered = await self._store.check()
        except StoreError:
            self.check_seconds, self.registered = {}, {}
            raise
        self.check_seconds = {"": self._clock() - started}
        self.registered = {} if registered is None else {"": registered}
        return registered

    async def aclose(self) -> None:
        """Close the store's connections."""
        await self._store.aclose()
