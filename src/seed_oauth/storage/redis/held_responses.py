"""Held token responses in Redis: one hash, and a sorted set of their names by when they expire.

Redis could let each expire, but then nobody would know how many clients did not come.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from seed_oauth.outcomes import ClientFamily
from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

# The part in braces decides the node of a Cluster: each script changes both. Earlier versions had others under {held}
# and {held-token-responses}.
_RESPONSES = f"{KEY_PREFIX}{{sealed-token-responses}}:sealed"
_BY_EXPIRY = f"{KEY_PREFIX}{{sealed-token-responses}}:by-expiry"

_LONGEST = 3600
"""Seconds after the last login in which a server may still delete them itself."""

# KEYS: responses, by expiry. ARGV: key, family and sealed response, expires_at, seconds until all of it is deleted.
_HOLD = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
"""
# KEYS: the same. ARGV: key.
_TAKE = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return held
"""
# KEYS: the same. ARGV: now.
_DELETE_EXPIRED = """
local families = {}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1])) do
  local held = redis.call('HGET', KEYS[1], key)
  if held then
    families[#families + 1] = held:match('^[^ ]*')
  end
  redis.call('HDEL', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
end
return families
"""


class RedisHeldResponseStore:
    """A `HeldResponseStore` in Redis."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database

    async def hold(self, key: int, sealed: bytes, family: ClientFamily, *, expires_at: float) -> None:
        """Store one."""
        await self._run(_HOLD, key, b"%s %s" % (family.value.encode(), sealed), expires_at, _LONGEST)

    async def take(self, key: int) -> bytes | None:
        """Remove one and return it."""
        held: bytes | None = await self._run(_TAKE, key)
        return None if held is None else held.partition(b" ")[2]

    async def delete_expired(self, *, now: float) -> Mapping[str, int]:
        """Delete those that have expired."""
        families: list[bytes] = await self._run(_DELETE_EXPIRED, now)
        return Counter(family.decode() for family in families)

    async def _run(self, script: str, *words: bytes | float) -> Any:  # noqa: ANN401 - each script has its own reply
        return await self._database.command("EVAL", script, 2, _RESPONSES, _BY_EXPIRY, *words)
