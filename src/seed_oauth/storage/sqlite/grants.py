"""Grants in SQLite."""

import sqlite3
from collections.abc import Sequence

from seed_oauth.flows.grants import GRACE, PER_SUBJECT, RefreshLease, Selection, StoredGrant, to_the_hour
from seed_oauth.storage.sqlite.database import Database

_FORGOTTEN_AT_ONCE = 100  # rows, so that no single request has to delete everything that has expired
_ADDED_IN_BETWEEN = 32  # grants that are added until rows are deleted again, which is to be less than those

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
_DESCRIBED = {
    "client_id": "TEXT",
    "client_name": "TEXT",
    "client_family": "TEXT",
    "subject_hash": "TEXT",
    "session_hash": "TEXT",
    "scope": "TEXT",
    "resource": "TEXT",
    "issued_at": "INTEGER",
    "used_at": "INTEGER",
    "address": "TEXT",
    "token_hash": "TEXT",
    "unused": "INTEGER",
}
"""The columns that say who has access, and that its tokens have not been used yet. They came later; a grant from
before, and one that is revoked, has none."""
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS grants_by_expiry ON grants (expires_at)",
    """
    CREATE INDEX IF NOT EXISTS grants_by_subject ON grants (subject_hash, expires_at) WHERE subject_hash IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS grants_by_session ON grants (session_hash) WHERE session_hash IS NOT NULL
    """,
)

_SELECT = "SELECT generation, taken_until, answered_at, answer, revoked FROM grants WHERE grant_id = ?"
_COLUMNS = ", ".join(StoredGrant._fields)
_ADD = f"""
    INSERT INTO grants ({_COLUMNS}, expires_at, generation, unused)
    VALUES ({"?, " * len(StoredGrant._fields)}?, 0, 1)
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - made of names in this module and of `StoredGrant`
_SEARCH = f"""
    SELECT {_COLUMNS} FROM grants WHERE client_id IS NOT NULL AND expires_at >= :now
        AND (:grant_id IS NULL OR grant_id = :grant_id)
        AND (:client_id IS NULL OR client_id = :client_id)
        AND (:issued_before IS NULL OR issued_at < :issued_before)
"""  # noqa: S608 - the same
# Only a condition by itself lets SQLite use the index.
_NARROWED = {name: f" AND {name} = :{name}" for name in ("subject_hash", "session_hash")}
_LAST_USED_FIRST = " ORDER BY used_at DESC, issued_at DESC, grant_id"
_SURPLUS = f"""
    SELECT grant_id, expires_at FROM grants WHERE subject_hash = ?
    ORDER BY expires_at DESC LIMIT -1 OFFSET {PER_SUBJECT}
"""  # noqa: S608 - the same
_IS_UNUSED = "SELECT 1 FROM grants WHERE grant_id = ? AND unused"
_FIRST_USE = "UPDATE grants SET unused = NULL WHERE grant_id = ? AND unused RETURNING client_family"
_TAKE = """
    INSERT INTO grants (grant_id, generation, taken_until, expires_at, used_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (grant_id) DO UPDATE SET
        generation = excluded.generation, taken_until = excluded.taken_until, expires_at = excluded.expires_at,
        used_at = max(issued_at, excluded.used_at)
"""
_FINISH = """
    UPDATE grants SET generation = ? + 1, taken_until = NULL, answered_at = ?, answer = ?, token_hash = ?
    WHERE grant_id = ? AND generation = ? AND NOT revoked
"""
_ABANDON = "UPDATE grants SET taken_until = NULL WHERE grant_id = ? AND generation = ?"
_NOTHING = ", ".join(f"{name} = NULL" for name in _DESCRIBED)
_REVOKE = f"""
    INSERT INTO grants (grant_id, generation, revoked, expires_at) VALUES (?, 0, 1, ?)
    ON CONFLICT (grant_id) DO UPDATE SET revoked = 1, answer = NULL, expires_at = excluded.expires_at, {_NOTHING}
"""  # noqa: S608 - the same
_FORGET = """
    DELETE FROM grants WHERE grant_id IN (SELECT grant_id FROM grants WHERE expires_at < ? LIMIT ?)
"""


class SqliteGrantStore:
    """A `GrantStore` in one SQLite database."""

    def __init__(self, database: Database) -> None:
        database.on_connect(_set_up)
        self._database = database
        self._added = 0

    async def add(self, grant: StoredGrant, *, expires_at: float) -> None:
        """Store a new grant, and revoke one of the same user if there are too many."""

        # Each statement is a transaction of its own, which takes less time: nothing depends on the others.
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_ADD, (*grant, expires_at))
            if self._added % _ADDED_IN_BETWEEN == 0:
                connection.execute(_FORGET, (grant.issued_at, _FORGOTTEN_AT_ONCE))
            if grant.subject_hash is not None:
                for surplus in connection.execute(_SURPLUS, (grant.subject_hash,)).fetchall():
                    connection.execute(_REVOKE, surplus)

        await self._database.write(work)
        self._added += 1

    async def search(self, chosen: Selection, *, now: float) -> Sequence[StoredGrant]:
        """The grants that are neither revoked nor expired."""
        narrowed = "".join(sql for name, sql in _NARROWED.items() if getattr(chosen, name) is not None)
        parameters = {**chosen._asdict(), "now": now}
        return self._database.read(
            lambda connection: [
                StoredGrant(*row) for row in connection.execute(f"{_SEARCH}{narrowed}{_LAST_USED_FIRST}", parameters)
            ]
        )

    async def first_use(self, grant_id: str) -> str | None:
        """The client_family of a new grant, once."""
        # Only a write takes the lock.
        if self._database.read(lambda connection: connection.execute(_IS_UNUSED, (grant_id,)).fetchone()) is None:
            return None

        def work(connection: sqlite3.Connection) -> str | None:
            row: tuple[str] | None = connection.execute(_FIRST_USE, (grant_id,)).fetchone()
            return None if row is None else row[0]

        return await self._database.write(work)

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
                    connection.execute(_TAKE, (grant_id, generation, until, expires_at, to_the_hour(now)))
                elif lease is RefreshLease.SPENT:
                    connection.execute(_REVOKE, (grant_id, expires_at))
                return lease

        return await self._database.write(take)

    async def finish(
        self, grant_id: str, generation: int, answer: str, *, now: float, token_hash: str | None = None
    ) -> None:
        """Store the answer; the next generation is the newest from now on."""
        parameters = (generation, now, answer, token_hash, grant_id, generation)
        await self._database.write(lambda connection: connection.execute(_FINISH, parameters))

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Give the lease back."""
        await self._database.write(lambda connection: connection.execute(_ABANDON, (grant_id, generation)))

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Revoke every refresh token of this grant."""
        await self._database.write(lambda connection: connection.execute(_REVOKE, (grant_id, expires_at)))


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    if not _is_current(connection):
        with connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            known = _columns(connection)  # another process may have been first
            for name, kind in _DESCRIBED.items():
                if name not in known:
                    connection.execute(f"ALTER TABLE grants ADD COLUMN {name} {kind}")
    for index in _INDEXES:
        connection.execute(index)


def _is_current(connection: sqlite3.Connection) -> bool:
    return _DESCRIBED.keys() <= _columns(connection)


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in connection.execute("PRAGMA table_info(grants)")}


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
