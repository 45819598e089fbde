"""Held token responses in SQLite."""

import sqlite3
from collections import Counter
from collections.abc import Mapping

from seed_oauth.outcomes import ClientFamily
from seed_oauth.storage.sqlite.database import Database

# Without an index by expiry, which would double the cost of a write: the rows are those of the last minute.
_TABLE = """
    CREATE TABLE IF NOT EXISTS sealed_token_responses (
        key INTEGER PRIMARY KEY,
        sealed BLOB NOT NULL,
        client_family TEXT NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT
"""
_INSERT = "INSERT INTO sealed_token_responses (key, sealed, client_family, expires_at) VALUES (?, ?, ?, ?)"
_TAKE = "DELETE FROM sealed_token_responses WHERE key = ? RETURNING sealed"
_DELETE_EXPIRED = "DELETE FROM sealed_token_responses WHERE expires_at < ? RETURNING client_family"
_EARLIER = "held_responses", "held_token_responses"  # tables of earlier versions, with text in their columns


class SqliteHeldResponseStore:
    """A `HeldResponseStore` in one SQLite database."""

    def __init__(self, database: Database) -> None:
        database.on_connect(_set_up)
        self._database = database

    async def hold(self, key: int, sealed: bytes, family: ClientFamily, *, expires_at: float) -> None:
        """Store one."""
        row = (key, sealed, family.value, expires_at)
        await self._database.write(lambda connection: connection.execute(_INSERT, row))

    async def take(self, key: int) -> bytes | None:
        """Remove one and return it."""
        # Committed once every row is fetched.
        rows = await self._database.write(lambda connection: connection.execute(_TAKE, (key,)).fetchall())
        return bytes(rows[0][0]) if rows else None

    async def delete_expired(self, *, now: float) -> Mapping[str, int]:
        """Delete those that have expired."""
        rows = await self._database.write(lambda connection: connection.execute(_DELETE_EXPIRED, (now,)).fetchall())
        return Counter(str(family) for (family,) in rows)


def _set_up(connection: sqlite3.Connection) -> None:
    for table in _EARLIER:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(_TABLE)
