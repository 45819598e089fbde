"""Revocations: which access tokens are void before they expire, our own and those of the identity provider.

Checking a token asks no store: each process has the revocations of the last day in memory, and reads new ones from the
store twice a second. While the store is down, those that are known hold, and a token that is revoked elsewhere works
until the store is back, or until it expires.

Memory is bounded. Where there are more revocations than it holds, the oldest are forgotten, and an epoch moves: every
token that was issued before it is void, whether it was revoked or not.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from time import time

import structlog

from seed_oauth.flows.revoked import (
    FOR_GOOD,
    KEPT,
    PAGE,
    PAGES,
    Revocable,
    Revocation,
    RevocationStore,
    Revoked,
    epoch_after,
    hashed,
)
from seed_oauth.outcomes.errors import StoreError

INTERVAL = 0.5
"""Seconds between two reads of the store."""

_NEVER = -inf


class _Page:
    """Revocations that were made one after the other, so that they are forgotten together."""

    def __init__(self, begun_at: float) -> None:
        self.begun_at = begun_at
        self.newest = begun_at
        self.before: dict[int, float] = {}

    def add(self, revocation: Revocation) -> None:
        key = _key(revocation.of, revocation.name)
        self.before[key] = max(self.before.get(key, _NEVER), revocation.before)
        self.newest = max(self.newest, revocation.revoked_at)


def _key(of: str, name: str) -> int:
    # An int of less than 2^60 takes half the memory of a digest. Python hashes text with a secret of the process, so
    # nobody can look for two names with the same hash.
    return hash((of, name)) & (2**60 - 1)


class Revocations:
    """The revocations of the last day, as far as this process knows them."""

    def __init__(
        self,
        store: RevocationStore | None,
        now: Callable[[], float] = time,
        *,
        epoch: float | None = None,
        page: int = PAGE,
    ) -> None:
        """Read nothing yet.

        Args:
            store: where processes tell each other; None for those who have none.
            now: counts seconds since the epoch.
            epoch: whatever was issued until then is void, in seconds since 1970; None revokes nothing.
            page: how many revocations are forgotten together.
        """
        self._store = store
        self._now = now
        self._epoch = _NEVER if epoch is None else epoch
        self._page = page
        self._pages: deque[_Page] = deque()
        self._watched: dict[object, tuple[Revocable, Callable[[], None]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._has_read = asyncio.Event()
        self._out_of_touch = False

    async def revoke(self, of: Revoked, name: str = "", *, before: float = FOR_GOOD) -> None:
        """Make tokens void, in every process within a second.

        Raises:
            StoreError: other processes cannot be told.
        """
        if self._before(of, name) < before:
            revocation = Revocation(of, name, before, self._now())
            if self._store is not None:
                await self._store.add(revocation)
            self._learn([revocation])

    async def cover(self, token: Revocable) -> bool:
        """Whether the token is void. The first call begins to read the store, and waits for that."""
        if self._store is None:
            return self._covers(token)
        if self._reading is None or self._reading.done():  # done: its event loop has ended
            self._has_read = asyncio.Event()
            self._reading = asyncio.create_task(self._keep_reading())
        await self._has_read.wait()
        return self._covers(token)

    @contextmanager
    def watching(self, token: Revocable, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` as soon as the token is void; perhaps more than once."""
        watch = object()
        self._watched[watch] = token, end
        try:
            if self._covers(token):
                end()
            yield
        finally:
            del self._watched[watch]

    async def read(self) -> None:
        """Read what is new in the store."""
        try:
            while self._store is not None and (found := await self._store.unread()):
                self._learn(found)
        except StoreError as failure:
            if not self._out_of_touch:
                structlog.get_logger("seed_oauth").warning(
                    "revocations cannot be read: access tokens that are revoked meanwhile work until they expire",
                    reason=str(failure),
                )
            self._out_of_touch = True
            return
        if self._out_of_touch:
            structlog.get_logger("seed_oauth").info("revocations are read again")
        self._out_of_touch = False

    async def aclose(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _keep_reading(self) -> None:
        try:
            while True:
                await self.read()
                self._has_read.set()
                await asyncio.sleep(INTERVAL)
        finally:
            self._has_read.set()  # nobody may wait for ever

    def _covers(self, token: Revocable) -> bool:
        if token.issued_at <= self._epoch:
            return True
        return bool(self._pages) and any(token.issued_at <= self._before(*name) for name in _names(token))

    def _before(self, of: str, name: str) -> float:
        """Until when such tokens are void."""
        if of == Revoked.ALL:
            return self._epoch
        key = _key(of, name)
        return max((page.before.get(key, _NEVER) for page in self._pages), default=_NEVER)

    def _learn(self, revocations: Iterable[Revocation]) -> None:
        for revocation in revocations:
            if revocation.of == Revoked.ALL:
                self._epoch = max(self._epoch, revocation.before)
            else:
                self._page_for(revocation).add(revocation)
        kept_since = self._now() - KEPT
        while self._pages and self._pages[0].newest < kept_since:
            self._pages.popleft()
        for token, end in list(self._watched.values()):
            if self._covers(token):
                end()

    def _page_for(self, revocation: Revocation) -> _Page:
        if self._pages:
            page = self._pages[-1]
            if len(page.before) < self._page and revocation.revoked_at < page.begun_at + KEPT / 2:
                return page
            if len(self._pages) >= PAGES:
                self._forget(self._pages.popleft())
        self._pages.append(_Page(revocation.revoked_at))
        return self._pages[-1]

    def _forget(self, page: _Page) -> None:
        """Forget what may still be needed: fail closed."""
        self._epoch = max(self._epoch, epoch_after(page.newest, self._now()))
        structlog.get_logger("seed_oauth").warning(
            "too many revocations: every access token of an earlier time is refused, revoked or not",
            issued_before=datetime.fromtimestamp(self._epoch, UTC).isoformat(timespec="seconds"),
        )


def _names(token: Revocable) -> Iterator[tuple[Revoked, str]]:
    """By which names the token may be revoked."""
    if token.grant_id is not None:
        yield Revoked.GRANT, token.grant_id
    if token.client_id is not None:
        yield Revoked.CLIENT, token.client_id
    hashes = (Revoked.SUBJECT, token.subject), (Revoked.SESSION, token.session_id), (Revoked.TOKEN, token.token_id)
    for of, name in hashes:
        if name is not None:
            yield of, hashed(name)
