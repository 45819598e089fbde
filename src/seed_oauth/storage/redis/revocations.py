"""Revocations in Redis: one stream, in the order in which Redis was told."""

from collections.abc import Sequence

from seed_oauth.flows.revocations import CAPACITY, KEPT, Revocation
from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

_STREAM = f"{KEY_PREFIX}revocations"
_AT_ONCE = 1000  # revocations that are read

# KEYS: the stream. ARGV: capacity, seconds for which entries are kept, the revocation. IDs are of Redis's clock.
_ADD = """
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
  'kind', ARGV[3], 'name', ARGV[4], 'before', ARGV[5], 'revoked_at', ARGV[6])
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', (redis.call('TIME')[1] - ARGV[2]) * 1000))
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class RedisRevocationStore:
    """A `RevocationStore` in Redis."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database
        self._next = "-"

    async def add(self, revocation: Revocation) -> None:
        """Store one."""
        await self._database.command("EVAL", _ADD, 1, _STREAM, CAPACITY, int(KEPT), *revocation)

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
