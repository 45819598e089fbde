"""What clients published when they were last used, in the store: a restart does not depend on their publishers."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import time
from typing import Protocol

from seed_oauth.envelopes.seal import Purpose, Sealer, SealError
from seed_oauth.outcomes.errors import StoreError

LIFETIME = 86_400
"""Seconds for which an archived document is used, while fetching it fails."""

CAPACITY = 1000
"""Documents archived at most; the one saved longest ago is deleted first."""


class DocumentStore(Protocol):
    """Where documents are archived. Its methods raise `StoreError` if it does not work."""

    async def load(self, url: str) -> str | None:
        """The sealed document of this URL, if there is one."""
        ...

    async def save(self, url: str, sealed: str, *, now: float) -> None:
        """Replace the sealed document of this URL, and delete those beyond `CAPACITY`."""
        ...


class DocumentArchive:
    """Documents in a store. They are sealed: whoever can write to the store must not be able to speak for a client."""

    def __init__(self, store: DocumentStore, sealer: Sealer, now: Callable[[], float] = time) -> None:
        """`now` counts seconds since the epoch."""
        self._store = store
        self._sealer = sealer
        self._now = now

    async def load(self, url: str) -> Mapping[str, object] | None:
        """The content of the document at `url` as it was saved, if it was within `LIFETIME`."""
        with suppress(StoreError, SealError):
            sealed = await self._store.load(url)
            if sealed is not None:
                saved_as, content = self._sealer.open(
                    Purpose.CLIENT_DOCUMENT, sealed, lifetime=LIFETIME, now=self._now()
                )
                return content if saved_as == url else None
        return None

    async def save(self, url: str, content: Mapping[str, object]) -> None:
        """Save a document. No login fails because it cannot be saved."""
        now = self._now()
        with suppress(StoreError):
            await self._store.save(url, self._sealer.seal(Purpose.CLIENT_DOCUMENT, [url, content], now), now=now)
