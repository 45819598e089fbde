"""Grants in SQLite."""

import sqlite3

from seed_oauth.flows.grants import GRACE, RefreshLease
from seed_oauth.storage.sqlite.database import Database

_FORGOTTEN_AT_ONCE = 100  # rows, so that no single request has to delete everything that has expired

_TABLE = """
    CREATE TABLE IF NOT EXISTS grants (
        grant_id TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        taken_until REAL,
        answered_at REAL,
        answer TEXT,
        revoked INTEGER NOT NULL DEFAULT 0,
        expires_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS grants_by_expiry ON grants (expires_at)"

_SELECT = "SELECT generation, taken_until, answered_at, answer, revoked FROM grants WHERE grant_id = ?"
_TAKE = """
    INSERT INTO grants (grant_id, generation, taken_until, expires_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (grant_id) DO UPDATE SET
        generation = excluded.generation, taken_until = excluded.taken_until, expires_at = excluded.expires_at
"""
_FINISH = """
    UPDATE grants SET generation = ? + 1, taken_until = NULL, answered_at = ?, answer = ?
    WHERE grant_id = ? AND generation = ?
"""
_ABANDON = "UPDATE grants SET taken_until = NULL WHERE grant_id = ? AND generation = ?"
_REVOKE = """
    INSERT INTO grants (grant_id, generation, revoked, expires_at) VALUES (?, 0, 1, ?)
    ON CONFLICT (grant_id) DO UPDATE SET revoked = 1, answer = NULL, expires_at = excluded.expires_at
"""
_FORGET = """
    DELETE FROM grants WHERE grant_id IN (SELECT grant_id FROM grants WHERE expires_at < ? LIMIT ?)
"""


class SqliteGrantStore:
    """A `GrantStore` in one SQLite database."""

    def __init__(self, database: Database) -> None:
        database.on_connect(_set_up)
        self._database = database

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        """The lease of the refresh token, or the answer that it already got."""

        def take(connection: sqlite3.Connection) -> RefreshLease | str:
            with connection:  # commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                row = connection.execute(_SELECT, (grant_id,)).fetchone()
                lease = RefreshLease.YOURS if row is None else _lease(row, generation, now)
                if lease is RefreshLease.YOURS:
                    connection.execute(_FORGET, (now, _FORGOTTEN_AT_ONCE))
                    connection.execute(_TAKE, (grant_id, generation, until, expires_at))
                elif lease is RefreshLease.SPENT:
                    connection.execute(_REVOKE, (grant_id, expires_at))
                return lease

        return await self._database.write(take)

    async def finish(self, grant_id: str, generation: int, answer: str, *, now: float) -> None:
        """Store the answer; the next generation is the newest from now on."""
        parameters = (generation, now, answer, grant_id, generation)
        await self._database.write(lambda connection: connection.execute(_FINISH, parameters))

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Give the lease back."""
        await self._database.write(lambda connection: connection.execute(_ABANDON, (grant_id, generation)))

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Revoke every refresh token of this grant."""
        await self._database.write(lambda connection: connection.execute(_REVOKE, (grant_id, expires_at)))


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_INDEX)


def _lease(
    row: tuple[int, float | None, float | None, str | None, int], generation: int, now: float
) -> RefreshLease | str:
    newest, taken_until, answered_at, answer, revoked = row
    if revoked:
        return RefreshLease.REVOKED
    if generation == newest - 1 and answer is not None and answered_at is not None and now - answered_at <= GRACE:
        return answer
    if generation < newest:
        return RefreshLease.SPENT
    if generation == newest and taken_until is not None and now < taken_until:
        return RefreshLease.TAKEN
    # A generation newer than any known one was sealed here before the store lost its data.
    return RefreshLease.YOURS
