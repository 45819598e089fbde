"""Revocations in Redis: one stream, in the order in which Redis was told."""

from collections.abc import Sequence

from seed_oauth.flows.revoked import CAPACITY, KEPT, UNDER_WAY, Revocation, Revoked
from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

_STREAM = f"{KEY_PREFIX}revocations"
_AT_ONCE = 1000  # revocations that are read

# KEYS: the stream. ARGV: capacity, seconds for which entries are kept, the revocation; how many are forgotten at once
# where there are too many, the kind that revokes everything that was issued before, the margin. IDs are of Redis's
# clock.
_ADD = """
local function add(kind, name, before)
  redis.call('XADD', KEYS[1], '*', 'kind', kind, 'name', name, 'before', before, 'revoked_at', ARGV[6])
end
add(ARGV[3], ARGV[4], ARGV[5])
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', (redis.call('TIME')[1] - ARGV[2]) * 1000))
if redis.call('XLEN', KEYS[1]) > tonumber(ARGV[1]) then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[7] + 1)
  local forgotten, kept = oldest[#oldest - 1], oldest[#oldest]
  redis.call('XTRIM', KEYS[1], 'MINID', kept[1])
  add(ARGV[8], '', string.format('%.3f', math.min(forgotten[2][8] + ARGV[9], ARGV[6])))
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class RedisRevocationStore:
    """A `RevocationStore` in Redis."""

    def __init__(self, database: RedisDatabase, capacity: int = CAPACITY) -> None:
        """About `capacity` revocations are kept at most."""
        self._database = database
        self._capacity = capacity
        self._next = "-"

    async def add(self, revocation: Revocation) -> None:
        """Store one."""
        forgetting = min(_AT_ONCE, self._capacity), Revoked.ALL, UNDER_WAY
        await self._database.command("EVAL", _ADD, 1, _STREAM, self._capacity, int(KEPT), *revocation, *forgetting)

    async def unread(self) -> Sequence[Revocation]:
        """The next revocations that this object has not returned yet."""
        entries = await self._database.command("XRANGE", _STREAM, self._next, "+", "COUNT", _AT_ONCE)
        if entries:
            self._next = f"({entries[-1][0].decode()}"
        return [_revocation(members) for _, members in entries]


def _revocation(members: dict[bytes, bytes]) -> Revocation:
    return Revocation(
        members[b"kind"].decode(),
        members[b"name"].decode(),
        float(members[b"before"]),
        float(members[b"revoked_at"]),
    )
