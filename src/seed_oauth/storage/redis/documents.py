"""Archived client documents in Redis: one hash, and a sorted set of their URLs by when they were saved."""

from seed_oauth.clients.archive import CAPACITY
from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

# The part in braces decides the node of a Cluster: one script changes both.
_DOCUMENTS = f"{KEY_PREFIX}{{documents}}:sealed"
_BY_AGE = f"{KEY_PREFIX}{{documents}}:by-age"

# KEYS: documents, by age. ARGV: url, sealed document, now, capacity.
_SAVE = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
for _, url in ipairs(redis.call('ZRANGE', KEYS[2], 0, -tonumber(ARGV[4]) - 1)) do
  redis.call('HDEL', KEYS[1], url)
  redis.call('ZREM', KEYS[2], url)
end
"""


class RedisDocumentStore:
    """A `DocumentStore` in Redis."""

    def __init__(self, database: RedisDatabase, capacity: int = CAPACITY) -> None:
        """At most `capacity` documents are kept."""
        self._database = database
        self._capacity = capacity

    async def load(self, url: str) -> str | None:
        """The sealed document of this URL, if there is one."""
        sealed: bytes | None = await self._database.command("HGET", _DOCUMENTS, url)
        return None if sealed is None else sealed.decode()

    async def save(self, url: str, sealed: str, *, now: float) -> None:
        """Replace the sealed document of this URL."""
        await self._database.command("EVAL", _SAVE, 2, _DOCUMENTS, _BY_AGE, url, sealed, int(now), self._capacity)
