"""Replicas tell one another by Redis how often each has been asked, so that a limit holds for all of them together.

No request waits for that: each process counts by itself (`rate_limits`), and once a second it tells Redis what is new
and learns what others have counted. While Redis is gone or slow the limits of each process go on alone.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from secrets import token_hex

import structlog

from seed_oauth.errors import StoreError
from seed_oauth.rate_limits import RateLimits, Window
from seed_oauth.storage.redis.database import KEY_PREFIX, Client, RedisDatabase

INTERVAL = 1.0
"""Seconds between two exchanges: what a limit may be exceeded by is what replicas let pass in that time."""

_AT_ONCE = 200  # keys: to pack so many commands takes some milliseconds, in which no request is answered


class SharedLimits:
    """Keeps the limits of one process and those of the others together."""

    def __init__(self, limits: RateLimits, redis: RedisDatabase) -> None:
        self._windows = limits.windows.values()
        for window in self._windows:
            window.is_shared = True
        self._redis = redis
        self._replica = token_hex(8)
        self._alone = False
        self._exchanging: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to exchange counts."""
        self._exchanging = asyncio.create_task(self._keep_exchanging())

    async def aclose(self) -> None:
        """Stop it, and close the connection."""
        if self._exchanging is not None:
            self._exchanging.cancel()
            await asyncio.wait([self._exchanging])
        await self._redis.aclose()

    async def exchange(self) -> None:
        """Tell what is new, and learn what others have counted of the same keys."""
        log = structlog.get_logger("seed_oauth")
        try:
            for window in self._windows:
                await self._exchange(window)
        except StoreError as failure:
            if not self._alone:
                log.warning("rate limits are counted by this process alone", reason=str(failure))
            self._alone = True
            return
        if self._alone:
            log.info("rate limits are shared again")
        self._alone = False

    async def _keep_exchanging(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self.exchange()

    async def _exchange(self, window: Window) -> None:
        # Those of one window, also when it is over meanwhile.
        number, counts, elsewhere, changed = window.number, window.counts, window.elsewhere, window.changed
        keys = list(changed)
        for begin in range(0, len(keys), _AT_ONCE):
            told = {key: counts[key] for key in keys[begin : begin + _AT_ONCE]}
            changed.difference_update(told)  # what is counted from now on is news again
            try:
                totals = await self._redis.run(partial(self._tell, window, number, told))
            except StoreError:
                changed.update(told)
                raise
            elsewhere.update((key, total - told[key]) for key, total in zip(told, totals, strict=True))

    async def _tell(self, window: Window, number: int, told: Mapping[bytes, int], client: Client) -> list[int]:
        """The counts of all replicas together, once this one's are told.

        Each has a field of its own. So a command may come twice, as it may when Redis was slow to answer, without
        anything being counted twice.
        """
        pipeline = client.pipeline(transaction=False)
        for key, count in told.items():
            name = f"{KEY_PREFIX}limit:{window.name}:{number}:{key.hex()}"
            pipeline.hset(name, self._replica, count)
            pipeline.expire(name, window.seconds)
            pipeline.hvals(name)
        answers = await pipeline.execute()
        return [sum(map(int, counts)) for counts in answers[2::3]]
