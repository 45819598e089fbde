"""Revocations: which of our own access tokens are void before they expire.

Checking a token asks no store: each process has the revocations of the last day in memory, and reads new ones from the
store twice a second. While the store is down, those that are known hold, and a token that is revoked elsewhere works
until the store is back, or until it expires.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256
from math import inf
from time import time
from typing import NamedTuple, Protocol

import structlog

from seed_oauth.envelopes.access_token import LONGEST_LIFETIME
from seed_oauth.outcomes.errors import StoreError

INTERVAL = 0.5
"""Seconds between two reads of the store."""

KEPT = LONGEST_LIFETIME + 600.0
"""Seconds for which a revocation is kept: a refresh that was under way may issue one more token after it."""

CAPACITY = 50_000
"""Revocations that a process has in memory at most, about 20 MB; beyond that the oldest are forgotten."""

FOR_GOOD = inf
"""As `Revocation.before`: whenever a token was issued."""


class Revoked(StrEnum):
    """Whose tokens are void."""

    GRANT = "grant"
    CLIENT = "client"
    SUBJECT = "subject"


class Revocation(NamedTuple):
    """The access tokens of a grant, a client or a subject, issued until a certain time, are void."""

    of: str
    """A `Revoked`; a newer release may have written another one, which concerns no token here."""
    name: str
    """The ID of the grant, the client_id, or the `subject_hash`."""
    before: float
    """Seconds since the epoch; a token that was issued later is not void."""
    revoked_at: float
    """Seconds since the epoch."""


class RevocationStore(Protocol):
    """Stores revocations for all processes. Every method raises `StoreError` when it cannot answer."""

    async def add(self, revocation: Revocation) -> None:
        """Store one; when this returns, every process can read it."""
        ...

    async def unread(self) -> Sequence[Revocation]:
        """The next revocations that this object has not returned yet, the oldest first; none when it has read all."""
        ...


class Revocable(Protocol):
    """Our own access token, as far as revocations concern it; see `AccessToken`."""

    @property
    def grant_id(self) -> str | None: ...
    @property
    def client_id(self) -> str | None: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def issued_at(self) -> float: ...


def subject_hash(subject: str) -> str:
    """The name of a subject in a revocation: the store need not know the user."""
    return sha256(subject.encode()).hexdigest()


class Revocations:
    """The revocations of the last day, as far as this process knows them."""

    def __init__(self, store: RevocationStore, now: Callable[[], float] = time, capacity: int = CAPACITY) -> None:
        """Read nothing yet. `now` counts seconds since the epoch."""
        self._store = store
        self._now = now
        self._capacity = capacity
        self._known: OrderedDict[tuple[str, str], Revocation] = OrderedDict()
        self._watched: dict[object, tuple[Revocable, Callable[[], None]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._has_read = asyncio.Event()
        self._out_of_touch = False

    async def revoke(self, of: Revoked, name: str, *, before: float = FOR_GOOD) -> None:
        """Make tokens void, in every process within a second.

        Raises:
            StoreError: other processes cannot be told.
        """
        known = self._known.get((of, name))
        if known is None or known.before < before:
            revocation = Revocation(of, name, before, self._now())
            await self._store.add(revocation)
            self._learn([revocation])

    async def cover(self, token: Revocable) -> bool:
        """Whether the token is void. The first call begins to read the store, and waits for that."""
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
        log = structlog.get_logger("seed_oauth")
        try:
            while found := await self._store.unread():
                self._learn(found)
        except StoreError as failure:
            if not self._out_of_touch:
                log.warning(
                    "revocations cannot be read: access tokens that are revoked meanwhile work until they expire",
                    reason=str(failure),
                )
            self._out_of_touch = True
            return
        if self._out_of_touch:
            log.info("revocations are read again")
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
        if not self._known:
            return False
        names = (
            (Revoked.GRANT, token.grant_id or ""),
            (Revoked.CLIENT, token.client_id or ""),
            (Revoked.SUBJECT, subject_hash(token.subject or "")),
        )
        found = (self._known.get(name) for name in names)
        return any(revocation is not None and token.issued_at <= revocation.before for revocation in found)

    def _learn(self, revocations: Iterable[Revocation]) -> None:
        for revocation in revocations:
            key = revocation.of, revocation.name
            known = self._known.pop(key, revocation)
            self._known[key] = revocation._replace(before=max(known.before, revocation.before))
        kept_since = self._now() - KEPT
        while self._known:
            oldest = next(iter(self._known.values()))
            if len(self._known) <= self._capacity and oldest.revoked_at >= kept_since:
                break
            self._known.popitem(last=False)
        for token, end in list(self._watched.values()):
            if self._covers(token):
                end()
