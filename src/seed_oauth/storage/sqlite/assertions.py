"""Used client assertions in SQLite."""

import sqlite3
from hashlib import sha256

from seed_oauth.storage.sqlite.database import Database

_FORGOTTEN_AT_ONCE = 100  # rows, so that no single request has to delete everything that has expired

_TABLE = """
    CREATE TABLE IF NOT EXISTS assertions (
        assertion_hash BLOB PRIMARY KEY,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS assertions_by_expiry ON assertions (expires_at)"

_INSERT = "INSERT INTO assertions (assertion_hash, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
_FORGET = """
    DELETE FROM assertions WHERE assertion_hash IN (SELECT assertion_hash FROM assertions WHERE expires_at < ? LIMIT ?)
"""


class SqliteUsedAssertions:
    """`UsedAssertions` in one SQLite database, because a replayed assertion may reach any worker.

    Only verified assertions are stored, so filling the table takes a client's key, and each row is deleted once the
    assertion has expired. A hash is stored, because a jti may be long.
    """

    def __init__(self, database: Database) -> None:
        database.on_connect(_set_up)
        self._database = database

    async def use(self, client_id: str, jti: str, *, expires_at: float, now: float) -> bool:
        """Mark an assertion as used."""
        assertion_hash = sha256(f"{client_id}\n{jti}".encode()).digest()

        def work(connection: sqlite3.Connection) -> bool:
            with connection:  # commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_FORGET, (now, _FORGOTTEN_AT_ONCE))
                return connection.execute(_INSERT, (assertion_hash, int(expires_at) + 1)).rowcount == 1

        return await self._database.write(work)


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)
