"""Archived client documents in SQLite."""

import sqlite3

from seed_oauth.clients.archive import CAPACITY
from seed_oauth.storage.sqlite.database import Database

_TABLE = """
    CREATE TABLE IF NOT EXISTS documents (
        url TEXT PRIMARY KEY,
        sealed TEXT NOT NULL,
        saved_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS documents_by_age ON documents (saved_at)"

_SAVE = "INSERT OR REPLACE INTO documents (url, sealed, saved_at) VALUES (?, ?, ?)"
_EVICT = """
    DELETE FROM documents WHERE url IN (SELECT url FROM documents ORDER BY saved_at DESC LIMIT -1 OFFSET ?)
"""
_LOAD = "SELECT sealed FROM documents WHERE url = ?"


class SqliteDocumentStore:
    """A `DocumentStore` in one SQLite database."""

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        """At most `capacity` documents are kept."""
        database.on_connect(_set_up)
        self._database = database
        self._capacity = capacity

    async def load(self, url: str) -> str | None:
        """The sealed document of this URL, if there is one."""
        row = self._database.read(lambda connection: connection.execute(_LOAD, (url,)).fetchone())
        return None if row is None else str(row[0])

    async def save(self, url: str, sealed: str, *, now: float) -> None:
        """Replace the sealed document of this URL."""

        def work(connection: sqlite3.Connection) -> None:
            with connection:  # commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SAVE, (url, sealed, int(now)))
                connection.execute(_EVICT, (self._capacity,))

        await self._database.write(work)


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)
