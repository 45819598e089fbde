"""Grants in Redis: each is a hash, with the answer to its last refresh in a string beside it.

Each method is one script, so that only one of several hosts gets the lease. Sorted sets have the grant_ids by expiry,
which is the order of last use: of all grants, and of each user and each session. The part of a key in braces decides
the node of a Cluster, and a set is on another node than its grants. So a set may have a grant that is no longer there;
whoever searches leaves it out, and it goes with its expiry.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import orjson

from seed_oauth.flows.grants import GRACE, PER_SUBJECT, RefreshLease, Selection, StoredGrant, to_the_hour
from seed_oauth.storage.redis.database import KEY_PREFIX, Client, RedisDatabase

_ALL = f"{KEY_PREFIX}grants"
_OF_USER = f"{_ALL}:subject:"
_OF_SESSION = f"{_ALL}:session:"

Row = list[bytes | None]

_AT_ONCE = 500  # grants that are read, so that requests do not wait for a search of the operator

# KEYS: the grant, its answer. ARGV: generation, now, until, expires_at (rounded up), GRACE, now to the hour.
_TAKE_LEASE = """
local generation, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'generation', 'taken_until', 'answered_at', 'revoked', 'used_at', 'grant')
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
    redis.call('HDEL', KEYS[1], 'grant', 'token_hash')
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
if kept[6] and ARGV[6] > (kept[5] or '') then
  redis.call('HSET', KEYS[1], 'used_at', ARGV[6])
  return {'yours', kept[6]}
end
return {'yours'}
"""

# KEYS: the grant, its answer. ARGV: generation, now, the answer, GRACE, token_hash (empty for none).
_FINISH = """
local kept = redis.call('HMGET', KEYS[1], 'generation', 'revoked')
if kept[1] == ARGV[1] and not kept[2] then
  redis.call('HDEL', KEYS[1], 'taken_until')
  redis.call('HSET', KEYS[1], 'generation', tonumber(ARGV[1]) + 1, 'answered_at', ARGV[2], 'token_hash', ARGV[5])
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
local grant = redis.call('HGET', KEYS[1], 'grant')
redis.call('HSET', KEYS[1], 'revoked', 1)
redis.call('HDEL', KEYS[1], 'grant', 'token_hash')
redis.call('EXPIREAT', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return grant
"""

# KEYS: the grant. ARGV: the grant, token_hash (empty for none), expires_at (rounded up).
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'generation', 0, 'grant', ARGV[1], 'token_hash', ARGV[2], 'unused', 1)
  redis.call('EXPIREAT', KEYS[1], ARGV[3])
end
"""

# KEYS: the grant.
_FIRST_USE = """
return redis.call('HDEL', KEYS[1], 'unused') == 1 and redis.call('HGET', KEYS[1], 'grant')
"""

# KEYS: a set. ARGV: grant_id, expires_at (rounded up), now, how many grants may be in it (0 for any number). Returns
# the IDs of the others.
_LIST = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('TTL', KEYS[1]) < ARGV[2] - ARGV[3] then
  redis.call('EXPIREAT', KEYS[1], ARGV[2])
end
if ARGV[4] == '0' then
  return {}
end
return redis.call('ZRANGE', KEYS[1], 0, -ARGV[4] - 1)
"""


class RedisGrantStore:
    """A `GrantStore` in Redis, which lets grants expire."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database

    async def add(self, grant: StoredGrant, *, expires_at: float) -> None:
        """Store a new grant, and revoke one of the same user if there are too many."""
        expiry = _rounded_up(expires_at)
        written = orjson.dumps([*grant._replace(token_hash=None)])
        # Listed first: a grant that is stored must be found.
        await self._list(grant, expiry, grant.issued_at)
        await self._database.command("EVAL", _ADD, 1, _keys(grant.grant_id)[0], written, grant.token_hash or "", expiry)

    async def search(self, chosen: Selection, *, now: float) -> Sequence[StoredGrant]:
        """The grants that are neither revoked nor expired."""
        grant_ids = await self._listed(chosen, now)
        found: list[StoredGrant] = []
        for first in range(0, len(grant_ids), _AT_ONCE):
            rows = await self._database.run(_reading(grant_ids[first : first + _AT_ONCE]))
            found += filter(chosen.has, filter(None, map(_grant, rows)))
        return sorted(found, key=lambda grant: (-grant.used_at, -grant.issued_at, grant.grant_id))

    async def first_use(self, grant_id: str) -> str | None:
        """The client_family of a new grant, once."""
        written = await self._database.command("EVAL", _FIRST_USE, 1, _keys(grant_id)[0])
        return None if written is None else StoredGrant(*orjson.loads(written)).client_family

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        """The lease of the refresh token, or the answer that it already got."""
        keys, expiry, hour = _keys(grant_id), _rounded_up(expires_at), to_the_hour(now)
        lease, *more = await self._database.command(
            "EVAL", _TAKE_LEASE, len(keys), *keys, generation, now, until, expiry, GRACE, hour
        )
        if lease == b"answered":
            return str(more[0].decode())
        if more:  # once an hour
            await self._list(StoredGrant(*orjson.loads(more[0])), expiry, now)
        return RefreshLease(lease.decode())

    async def finish(
        self, grant_id: str, generation: int, answer: str, *, now: float, token_hash: str | None = None
    ) -> None:
        """Store the answer; the next generation is the newest from now on."""
        keys, kept = _keys(grant_id), int(GRACE) + 1
        await self._database.command("EVAL", _FINISH, len(keys), *keys, generation, now, answer, kept, token_hash or "")

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Give the lease back."""
        await self._database.command("EVAL", _ABANDON, 1, _keys(grant_id)[0], generation)

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Revoke every refresh token of this grant."""
        keys = _keys(grant_id)
        written = await self._database.command("EVAL", _REVOKE, len(keys), *keys, _rounded_up(expires_at))
        if written is not None:
            grant = StoredGrant(*orjson.loads(written))
            for key in _sets(grant):
                await self._database.command("ZREM", key, grant_id)

    async def _listed(self, chosen: Selection, now: float) -> Sequence[str]:
        if chosen.grant_id is not None:
            return [chosen.grant_id]
        *_, narrowest = _sets(chosen)
        listed = await self._database.command("ZRANGEBYSCORE", narrowest, now, "+inf")
        return [grant_id.decode() for grant_id in listed]

    async def _list(self, grant: StoredGrant, expiry: int, now: float) -> None:
        scripts = [
            self._database.command("EVAL", _LIST, 1, key, grant.grant_id, expiry, int(now), _limit(key))
            for key in _sets(grant)
        ]
        for surplus in await asyncio.gather(*scripts):
            for grant_id in surplus:
                await self.revoke(grant_id.decode(), expires_at=expiry)


def _keys(grant_id: str) -> tuple[str, str]:
    # The part in braces decides the node of a Cluster.
    key = f"{KEY_PREFIX}grant:{{{grant_id}}}"
    return key, f"{key}:answer"


def _sets(one: StoredGrant | Selection) -> Iterator[str]:
    """The sets that have a grant, or all that are selected: of all grants, of a user, of a session."""
    yield _ALL
    if one.subject_hash is not None:
        yield _OF_USER + one.subject_hash
    if one.session_hash is not None:
        yield _OF_SESSION + one.session_hash


def _limit(key: str) -> int:
    return PER_SUBJECT if key.startswith(_OF_USER) else 0


def _reading(grant_ids: Sequence[str]) -> Callable[[Client], Awaitable[list[Row]]]:
    """Read grants with one round trip."""

    def read(client: Client) -> Awaitable[list[Row]]:
        pipeline = client.pipeline(transaction=False)
        for grant_id in grant_ids:
            pipeline.hmget(_keys(grant_id)[0], ["grant", "used_at", "token_hash"])
        return pipeline.execute()

    return read


def _grant(row: Row) -> StoredGrant | None:
    written, used_at, token_hash = row
    if written is None:
        return None
    grant = StoredGrant(*orjson.loads(written))
    return grant._replace(
        used_at=max(grant.issued_at, int(used_at or 0)), token_hash=token_hash.decode() if token_hash else None
    )


def _rounded_up(seconds: float) -> int:
    return int(seconds) + 1
