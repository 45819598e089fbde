"""Grants in Redis: each is a hash, with the answer to its last refresh in a string beside it.

Each method is one script, so that only one of several hosts gets the lease.
"""

from seed_oauth.flows.grants import GRACE, RefreshLease
from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

# KEYS: the grant, its answer. ARGV: generation, now, until, expires_at (rounded up), GRACE.
_TAKE_LEASE = """
local generation, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'generation', 'taken_until', 'answered_at', 'revoked')
local newest, taken_until, answered_at = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])
if kept[4] then
  return {'revoked'}
end
if newest then
  if generation == newest - 1 and answered_at and now - answered_at <= tonumber(ARGV[5]) then
    local answer = redis.call('GET', KEYS[2])
    if answer then
      return {'answered', answer}
    end
  end
  if generation < newest then
    redis.call('HSET', KEYS[1], 'revoked', 1)
    redis.call('EXPIREAT', KEYS[1], ARGV[4])
    redis.call('DEL', KEYS[2])
    return {'spent'}
  end
  if generation == newest and taken_until and now < taken_until then
    return {'taken'}
  end
end
-- A generation newer than any known one was sealed here before the store lost its data.
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'taken_until', ARGV[3])
redis.call('EXPIREAT', KEYS[1], ARGV[4])
return {'yours'}
"""

# KEYS: the grant, its answer. ARGV: generation, now, the answer, GRACE.
_FINISH = """
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'taken_until')
  redis.call('HSET', KEYS[1], 'generation', tonumber(ARGV[1]) + 1, 'answered_at', ARGV[2])
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
end
"""

# KEYS: the grant. ARGV: generation.
_ABANDON = """
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'taken_until')
end
"""

# KEYS: the grant, its answer. ARGV: expires_at (rounded up).
_REVOKE = """
redis.call('HSET', KEYS[1], 'revoked', 1)
redis.call('EXPIREAT', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
"""


class RedisGrantStore:
    """A `GrantStore` in Redis, which lets grants expire."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        """The lease of the refresh token, or the answer that it already got."""
        keys = _keys(grant_id)
        lease, *answer = await self._database.command(
            "EVAL", _TAKE_LEASE, len(keys), *keys, generation, now, until, _rounded_up(expires_at), GRACE
        )
        return answer[0].decode() if answer else RefreshLease(lease.decode())

    async def finish(self, grant_id: str, generation: int, answer: str, *, now: float) -> None:
        """Store the answer; the next generation is the newest from now on."""
        keys = _keys(grant_id)
        await self._database.command("EVAL", _FINISH, len(keys), *keys, generation, now, answer, int(GRACE) + 1)

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Give the lease back."""
        await self._database.command("EVAL", _ABANDON, 1, _keys(grant_id)[0], generation)

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Revoke every refresh token of this grant."""
        keys = _keys(grant_id)
        await self._database.command("EVAL", _REVOKE, len(keys), *keys, _rounded_up(expires_at))


def _keys(grant_id: str) -> tuple[str, str]:
    # The part in braces decides the node of a Cluster.
    key = f"{KEY_PREFIX}grant:{{{grant_id}}}"
    return key, f"{key}:answer"


def _rounded_up(seconds: float) -> int:
    return int(seconds) + 1
