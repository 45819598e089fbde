"""Clients in Redis.

Each client is a hash. Two sorted sets contain client_ids: all of them by last use or registration, and those that never
got a token by registration. Each user has another one, with the clients of their logins by last use. The part of a key
in braces decides the node of a Cluster: all clients are on one node, so that a script can change a client and the sets
together; the quota bounds them.
"""

from collections.abc import Callable
from time import time
from typing import Any

import orjson

from seed_oauth.clients import (
    PER_SUBJECT,
    PROTECTED,
    QUOTA,
    UNUSED_LIFETIME,
    Client,
    ClientPage,
    QuotaExhaustedError,
    StoredClient,
    clients_per_subject,
    forgotten_since,
    hash_subject,
)
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

_DAY = 86_400

_CLIENT = f"{KEY_PREFIX}{{clients}}:client:"
_ALL = f"{KEY_PREFIX}{{clients}}:all"
_UNUSED = f"{KEY_PREFIX}{{clients}}:unused"
_OF_SUBJECT = f"{KEY_PREFIX}{{clients}}:subject:"
_CHECKED = f"{KEY_PREFIX}{{clients}}:checked"

_MEMBERS = frozenset(
    {"client_id", "issued_at", "redirect_uris", "token_endpoint_auth_method", "secret_hash", "metadata"}
)
"""What is stored of a client."""

_FORGOTTEN_AT_ONCE = 100  # clients, so that no single registration has to delete everything that has expired

_SCANNED_AT_ONCE = 500  # clients, so that requests do not wait for a search of the operator

_FORGET = """
local function forget(client_ids)
  for _, client_id in ipairs(client_ids) do
    local of_subject = redis.call('HGET', ARGV[1] .. client_id, 'of_subject')
    if of_subject then
      redis.call('ZREM', of_subject, client_id)
    end
    redis.call('DEL', ARGV[1] .. client_id)
    redis.call('ZREM', KEYS[1], client_id)
    redis.call('ZREM', KEYS[2], client_id)
  end
end
"""

# KEYS: all, unused. ARGV: the prefix of the clients' keys, client_id, client, now, lifetime, quota; the registration
# since which unused clients are kept, the use since which used ones are kept, the registration since which none is
# evicted; how many are deleted at once.
_ADD = f"""
{_FORGET}
local key, now, quota, at_once = ARGV[1] .. ARGV[2], ARGV[4], tonumber(ARGV[6]), tonumber(ARGV[10])
forget(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[7], 'LIMIT', 0, at_once))
forget(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[8], 'LIMIT', 0, at_once))
if redis.call('EXISTS', key) == 1 then
  return 'taken'
end
local excess = redis.call('ZCARD', KEYS[1]) - quota + 1
if excess > 0 then
  local oldest = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[9], 'LIMIT', 0, math.min(excess, at_once))
  forget(oldest)
  if #oldest < excess then
    return 'full'
  end
end
redis.call('HSET', key, 'client', ARGV[3], 'last_used_at', now)
redis.call('EXPIRE', key, ARGV[5])
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[2])
return 'added'
"""

# KEYS: all, unused. ARGV: the prefix of the clients' keys, client_id, now, lifetime; the key of the clients of the
# user, empty if that is unknown; how many of them are kept.
_MARK_USED = f"""
{_FORGET}
local key = ARGV[1] .. ARGV[2]
if redis.call('EXISTS', key) == 1 then
  redis.call('HSET', key, 'last_used_at', ARGV[3], 'used', 1)
  redis.call('EXPIRE', key, ARGV[4])
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[2])
  if ARGV[5] ~= '' then
    redis.call('HSETNX', key, 'of_subject', ARGV[5])
  end
  local of_subject = redis.call('HGET', key, 'of_subject')
  if of_subject then
    redis.call('ZREM', of_subject, ARGV[2])
    local surplus = redis.call('ZRANGE', of_subject, 0, -tonumber(ARGV[6]))
    redis.call('ZREMRANGEBYRANK', of_subject, 0, -tonumber(ARGV[6]))
    forget(surplus)
    redis.call('ZADD', of_subject, ARGV[3], ARGV[2])
    redis.call('EXPIRE', of_subject, ARGV[4])
  end
end
"""

# KEYS: all, unused. ARGV: the prefix of the clients' keys, client_id.
_REMOVE = f"{_FORGET} forget({{ARGV[2]}})"

# KEYS: all. ARGV: the prefix of the clients' keys, the first and the last index.
_SCAN = """
local found = {}
for place, client_id in ipairs(redis.call('ZREVRANGE', KEYS[1], ARGV[2], ARGV[3])) do
  found[place] = redis.call('HMGET', ARGV[1] .. client_id, 'client', 'last_used_at', 'used')
end
return found
"""


class RedisClientStore:
    """A `RegisteredClients` in Redis.

    A client that is not used for `client_days` is deleted, one that never got a token after a day. Redis lets the
    client expire; registrations remove its client_id from the sets.
    """

    def __init__(
        self,
        database: RedisDatabase,
        client_days: float = 90,
        quota: int = QUOTA,
        per_subject: int = PER_SUBJECT,
        now: Callable[[], float] = time,
    ) -> None:
        """`now` counts seconds since the epoch; at most `quota` clients are kept, `per_subject` of them of one user."""
        self._database = database
        self._client_days = client_days
        self._quota = quota
        self._per_subject = clients_per_subject(per_subject, quota)
        self._now = now

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered (any more)."""
        stored = await self.look_up(client_id)
        return None if stored is None else stored.client

    async def add(self, client: Client) -> None:
        """Add a new client, visible to every process when this returns."""
        now = self._now()
        limits = (self._quota, *forgotten_since(now, self._client_days), int(now) - PROTECTED, _FORGOTTEN_AT_ONCE)
        added = await self._script(_ADD, client.client_id, _written(client), int(now), UNUSED_LIFETIME, *limits)
        if added == b"full":
            raise QuotaExhaustedError
        if added == b"taken":
            raise StoreError("the client_id is taken")

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        """Record that the client got a token now."""
        lifetime = int((self._client_days + 1) * _DAY)
        of_subject = "" if subject is None else _OF_SUBJECT + hash_subject(subject)
        await self._script(_MARK_USED, client_id, int(self._now()), lifetime, of_subject, self._per_subject)

    async def search(self, name: str, *, offset: int, limit: int) -> ClientPage:
        """The clients with `name` in their `client_name`, the ones used or registered last first."""
        found: list[StoredClient] = []
        total = scanned = 0
        while rows := await self._scan(scanned):
            scanned += len(rows)
            for stored in filter(None, map(self._alive, rows)):
                if name.lower() in str(stored.client.metadata.get("client_name", "")).lower():
                    if offset <= total < offset + limit:
                        found.append(stored)
                    total += 1
        return ClientPage(found, total)

    async def look_up(self, client_id: str) -> StoredClient | None:
        """The client and when it was used."""
        row = await self._database.command("HMGET", _CLIENT + client_id, "client", "last_used_at", "used")
        return self._alive(row)

    async def remove(self, client_id: str) -> bool:
        """Delete a client; False if there was none."""
        if await self.look_up(client_id) is None:
            return False
        await self._script(_REMOVE, client_id)
        return True

    async def check(self) -> int:
        """Return when Redis can be read and written: the number of clients, with expired ones not yet removed."""
        await self._database.command("SET", _CHECKED, 1, "EX", 60)
        return int(await self._database.command("ZCARD", _ALL))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._database.aclose()

    async def _script(self, script: str, *arguments: str | bytes | float) -> Any:  # noqa: ANN401 - what the script returns
        return await self._database.command("EVAL", script, 2, _ALL, _UNUSED, _CLIENT, *arguments)

    async def _scan(self, first: int) -> list[list[bytes | None]]:
        last = first + _SCANNED_AT_ONCE - 1
        rows: list[list[bytes | None]] = await self._database.command("EVAL", _SCAN, 1, _ALL, _CLIENT, first, last)
        return rows

    def _alive(self, row: list[bytes | None]) -> StoredClient | None:
        written, last_used_at, used = row
        if written is None or last_used_at is None:
            return None
        unused_since, used_since = forgotten_since(self._now(), self._client_days)
        if int(last_used_at) < (used_since if used else unused_since):
            return None
        return StoredClient(_read(written), int(last_used_at) if used else None)


def _written(client: Client) -> bytes:
    secret_hash = None if client.secret_hash is None else client.secret_hash.hex()
    return orjson.dumps({**{name: getattr(client, name) for name in _MEMBERS}, "secret_hash": secret_hash})


def _read(written: bytes) -> Client:
    # Only what a registration can say: whoever writes to Redis must not be able to vouch for a client.
    members = {name: value for name, value in orjson.loads(written).items() if name in _MEMBERS}
    secret_hash = members["secret_hash"]
    members["redirect_uris"] = tuple(members["redirect_uris"])
    members["secret_hash"] = None if secret_hash is None else bytes.fromhex(secret_hash)
    return Client(**members)
