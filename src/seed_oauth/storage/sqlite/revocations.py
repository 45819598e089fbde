"""Revocations in SQLite."""

import sqlite3
from collections.abc import Sequence

from seed_oauth.flows.revoked import CAPACITY, KEPT, Revocation, Revoked, epoch_after
from seed_oauth.storage.sqlite.database import Database

_AT_ONCE = 1000  # rows that are read, and that are deleted

# Numbers are never used again, and a transaction that writes excludes all others, so they are in the order of commits.
_TABLE = """
    CREATE TABLE IF NOT EXISTS revocations (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        before REAL NOT NULL,
        revoked_at REAL NOT NULL
    ) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS revocations_by_time ON revocations (revoked_at)"
_INSERT = "INSERT INTO revocations (kind, name, before, revoked_at) VALUES (?, ?, ?, ?)"
_FORGET = """
    DELETE FROM revocations WHERE number IN (SELECT number FROM revocations WHERE revoked_at < ? LIMIT ?)
"""
# Each in a query of its own, which reads one row.
_FIRST, _LAST = (
    "SELECT number FROM revocations ORDER BY number LIMIT 1",
    "SELECT number FROM revocations ORDER BY number DESC LIMIT 1",
)
_FORGET_OLDEST = "DELETE FROM revocations WHERE number < ? RETURNING revoked_at"
_NEWEST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'revocations'"
_UNREAD = "SELECT number, kind, name, before, revoked_at FROM revocations WHERE number > ? ORDER BY number LIMIT ?"


class SqliteRevocationStore:
    """A `RevocationStore` in one SQLite database."""

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        """About `capacity` revocations are kept at most."""
        database.on_connect(_set_up)
        self._database = database
        self._capacity = capacity
        self._read_to = 0

    async def add(self, revocation: Revocation) -> None:
        """Store one."""

        def work(connection: sqlite3.Connection) -> None:
            with connection:  # commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_INSERT, revocation)
                connection.execute(_FORGET, (revocation.revoked_at - KEPT, _AT_ONCE))
                self._forget_oldest(connection, revocation.revoked_at)

        await self._database.write(work)

    def _forget_oldest(self, connection: sqlite3.Connection, now: float) -> None:
        """Where there are too many, forget some, and revoke everything that was issued before."""
        ((first,), (last,)) = (connection.execute(end).fetchone() for end in (_FIRST, _LAST))
        if last - first >= self._capacity:
            forgotten = connection.execute(_FORGET_OLDEST, (first + min(_AT_ONCE, self._capacity),)).fetchall()
            epoch = epoch_after(max(revoked_at for (revoked_at,) in forgotten), now)
            connection.execute(_INSERT, Revocation(Revoked.ALL, "", epoch, now))

    async def unread(self) -> Sequence[Revocation]:
        """The next revocations that this object has not returned yet."""
        return self._database.read(self._read)

    def _read(self, connection: sqlite3.Connection) -> Sequence[Revocation]:
        (newest,) = connection.execute(_NEWEST).fetchone()
        if newest < self._read_to:  # another file is at this place now
            self._read_to = 0
        if newest == self._read_to:
            return ()
        rows = connection.execute(_UNREAD, (self._read_to, _AT_ONCE)).fetchall()
        self._read_to = rows[-1][0] if rows else newest
        return [Revocation(*rest) for _, *rest in rows]


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)
