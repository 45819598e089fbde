"""Used client assertions in Redis."""

from hashlib import sha256

from seed_oauth.storage.redis.database import KEY_PREFIX, RedisDatabase

_ASSERTION = f"{KEY_PREFIX}assertion:"


class RedisUsedAssertions:
    """`UsedAssertions` in Redis, which deletes each once the assertion has expired."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database

    async def use(self, client_id: str, jti: str, *, expires_at: float, now: float) -> bool:
        """Mark an assertion as used."""
        assertion_hash = sha256(f"{client_id}\n{jti}".encode()).hexdigest()
        lifetime = max(1, int(expires_at - now) + 1)
        return bool(await self._database.command("SET", _ASSERTION + assertion_hash, 1, "NX", "EX", lifetime))
