"""A cache of what is loaded from other servers, with at most one load of each key at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import Generic, TypeVar

Value = TypeVar("Value")
Kept = TypeVar("Kept")


class TooManyLoadsError(Exception):
    """No more keys may be loaded now."""


@dataclass(frozen=True, slots=True)
class _Known(Generic[Value]):
    value: Value
    loaded_at: float
    """Also when a load failed and the older value was kept."""
    fresh_until: float
    good_until: float
    failure: Exception | None = None
    """Why the last load failed, if it did."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception
    attempts: int
    until: float


class SingleFlight(Generic[Value]):
    """Values by key, such as documents by URL.

    A load is shared by all who wait for it, and goes on if one of them gives up. A failed load is not repeated until
    its pause is over. A value that is no longer fresh is used while it cannot be loaded again.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[tuple[Value, float]]],
        pause: Callable[[Exception, int, bool], float],
        *,
        stale: float = inf,
        in_background: bool = False,
        capacity: int = 1,
        may_load: Callable[[str, Collection[str]], bool] = lambda *_: True,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Load nothing yet.

        Args:
            load: given a key, its value and for how many seconds it is fresh.
            pause: the seconds until the next load, given the error, the number of failed attempts in a row,
                and whether an older value is kept. Called once for each failure.
            stale: seconds for which a value is used after it was fresh, while loading it fails.
            in_background: use the older value while a new one is loaded, rather than wait for it.
            capacity: values kept; the one used longest ago is dropped first. Failures have the same capacity.
            may_load: whether a key may be loaded now, given the keys that are being loaded.
            clock: counts seconds and never goes back.
        """
        self._load = load
        self._pause = pause
        self._stale = stale
        self._in_background = in_background
        self._capacity = capacity
        self._may_load = may_load
        self._clock = clock
        self._known: OrderedDict[str, _Known[Value]] = OrderedDict()
        # Separate, so that a flood of keys that fail cannot displace the known ones.
        self._failed: OrderedDict[str, _Failed] = OrderedDict()
        self._loading: dict[str, asyncio.Task[_Known[Value] | _Failed]] = {}

    async def get(self, key: str, *, within: float = inf) -> Value:
        """The value of `key`, loaded less than `within` seconds ago.

        Raises:
            TooManyLoadsError: it would have to be loaded now.
            Exception: what `load` raised, and there is no older value to use.
        """
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now - known.loaded_at < within and (now < known.fresh_until or self._in_background):
            self._known.move_to_end(key)
            if now >= known.fresh_until:
                self.start(key)
            return known.value
        failed = self._failed.get(key)
        if failed is None or now >= failed.until or key in self._loading:
            outcome = await self._outcome(key, now)
        else:
            outcome = failed
        if isinstance(outcome, _Failed):
            raise outcome.error.with_traceback(None)
        return outcome.value

    async def reload(self, key: str) -> None:
        """Load `key` now, or wait for the load that is under way.

        Raises:
            Exception: what `load` raised, also where there is an older value to use.
        """
        outcome = await asyncio.shield(self.start(key))
        failure = outcome.error if isinstance(outcome, _Failed) else outcome.failure
        if failure is not None:
            raise failure.with_traceback(None)

    def peek(self, key: str) -> Value | None:
        """The value of `key` as it was loaded last, if there is one."""
        known = self._known.get(key)
        return None if known is None else known.value

    def failure(self, key: str) -> Exception | None:
        """Why the last load of `key` failed, although an older value is used; None if it did not fail."""
        known = self._known.get(key)
        return None if known is None else known.failure

    def seconds_to_next_load(self, key: str) -> float:
        """What is left of the pause after a failed load of `key`."""
        failed = self._failed.get(key)
        return 0.0 if failed is None else max(0.0, failed.until - self._clock())

    def start(self, key: str) -> "asyncio.Task[_Known[Value] | _Failed]":
        """Load `key` in the background, unless that is under way."""
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._loaded(key))
            task.add_done_callback(lambda _: self._loading.pop(key))
        return task

    def forget(self, key: str) -> None:
        """Drop the value of `key`."""
        self._known.pop(key, None)

    async def aclose(self) -> None:
        """Cancel the loads that are under way."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, key: str, now: float) -> _Known[Value] | _Failed:
        if key not in self._loading and not self._may_load(key, self._loading.keys()):
            known = self._known.get(key)
            if known is not None and known.fresh_until <= now < known.good_until:
                return known
            raise TooManyLoadsError
        # The load is shared: who gives up waiting must not cancel it for the others.
        return await asyncio.shield(self.start(key))

    async def _loaded(self, key: str) -> _Known[Value] | _Failed:
        try:
            value, lifetime = await self._load(key)
        except Exception as error:  # noqa: BLE001 - every failure has its pause, and goes to all who wait
            return self._note(key, error)
        self._failed.pop(key, None)
        now = self._clock()
        return self._keep(self._known, key, _Known(value, now, now + lifetime, now + lifetime + self._stale))

    def _note(self, key: str, error: Exception) -> _Known[Value] | _Failed:
        now = self._clock()
        known = self._known.get(key)
        before = self._failed.get(key)
        attempts = 1 if before is None else before.attempts + 1
        if known is not None and now < known.good_until:
            fresh_until = max(known.fresh_until, now + self._pause(error, attempts, True))
            kept = replace(known, loaded_at=now, fresh_until=fresh_until, failure=error)
            return self._keep(self._known, key, kept)
        until = now + self._pause(error, attempts, False)
        return self._keep(self._failed, key, _Failed(error, attempts, until))

    def _keep(self, kept: OrderedDict[str, Kept], key: str, entry: Kept) -> Kept:
        kept[key] = entry
        kept.move_to_end(key)
        if len(kept) > self._capacity:
            kept.popitem(last=False)
        return entry
