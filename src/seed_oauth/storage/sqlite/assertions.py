"""Which client assertions were used."""

import sqlite3
from hashlib import sha256

from seed_oauth.storage.sqlite.database import Database

_FORGOTTEN_AT_ONCE = 100  # rows, so that no single request pays for all that has expired

_INSERT = "INSERT INTO assertions (assertion_hash, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
_FORGET = """
    DELETE FROM assertions WHERE assertion_hash IN (SELECT assertion_hash FROM assertions WHERE expires_at < ? LIMIT ?)
"""


class SqliteUsedAssertions:
    """`UsedAssertions` in the database, because a copy of an assertion may reach any worker.

    Only verified assertions are written, so nobody without a client's key can fill the table, and each row
    goes when the assertion would have expired. What is kept is a hash: a jti may be long, and tells nothing.
    """

    def __init__(self, database: Database) -> None:
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
