"""Replicas share their counts through Redis, so that a limit holds for all of them together.

No request waits for it: each process counts by itself (`rate_limits`), and once a second it writes its new counts to
Redis and reads those of the others. While Redis is down or slow, each process limits by its own counts.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from secrets import token_hex

import structlog

from seed_oauth.outcomes.errors import StoreError
from seed_oauth.rate_limits import RateLimits, Window
from seed_oauth.storage.redis.database import KEY_PREFIX, Client, RedisDatabase

INTERVAL = 1.0
"""Seconds between two exchanges. A limit may be exceeded by what the replicas accept in that time."""

_AT_ONCE = 200  # keys: packing this many commands blocks the event loop for a few milliseconds


class SharedLimits:
    """Exchanges the counts of this process with those of the other replicas."""

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
        """Stop exchanging counts, and close the connection."""
        if self._exchanging is not None:
            self._exchanging.cancel()
            await asyncio.wait([self._exchanging])
        await self._redis.aclose()

    async def exchange(self) -> None:
        """Write the new counts, and read those of the other replicas for the same keys."""
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
        # Bound once: the window may be over before the exchange is.
        number, counts, elsewhere, changed = window.number, window.counts, window.elsewhere, window.changed
        keys = list(changed)
        for begin in range(0, len(keys), _AT_ONCE):
            sent = {key: counts[key] for key in keys[begin : begin + _AT_ONCE]}
            changed.difference_update(sent)  # requests counted from now on belong to the next exchange
            try:
                totals = await self._redis.run(partial(self._send, window, number, sent))
            except StoreError:
                changed.update(sent)
                raise
            elsewhere.update((key, total - sent[key]) for key, total in zip(sent, totals, strict=True))

    async def _send(self, window: Window, number: int, sent: Mapping[bytes, int], client: Client) -> list[int]:
        """Write the counts of this replica; the result is the totals of all replicas.

        Each replica has its own field, so a command that is sent twice, because Redis was slow to answer, counts once.
        """
        pipeline = client.pipeline(transaction=False)
        for key, count in sent.items():
            name = f"{KEY_PREFIX}limit:{window.name}:{number}:{key.hex()}"
            pipeline.hset(name, self._replica, count)
            pipeline.expire(name, window.seconds)
            pipeline.hvals(name)
        answers = await pipeline.execute()
        return [sum(map(int, counts)) for counts in answers[2::3]]
