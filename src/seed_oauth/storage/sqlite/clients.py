"""Clients in SQLite."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from time import time

import orjson

from seed_oauth.clients import (
    PER_SUBJECT,
    PROTECTED,
    QUOTA,
    Client,
    ClientPage,
    QuotaExhaustedError,
    StoredClient,
    clients_per_subject,
    forgotten_since,
    hash_subject,
)
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.sqlite.database import Database, Work

# Once an hour a registration deletes the expired clients, and one that finds the table full deletes some unused ones.
# An index for that would make every registration slower, so the whole table is scanned, in a thread.
_CLEARED_EVERY = 3600.0  # seconds
_CLEARED_AT_ONCE = 10_000
_EVICTED_AT_ONCE = 100  # at most; usually one in a hundred of the quota
_SCANNED_AGAIN_AFTER = 1.0  # seconds, if no client could be evicted

_TABLE = """
    CREATE TABLE IF NOT EXISTS clients (
        client_id TEXT PRIMARY KEY,
        issued_at INTEGER NOT NULL,
        redirect_uris TEXT NOT NULL,
        token_endpoint_auth_method TEXT NOT NULL,
        secret_hash BLOB,
        metadata TEXT NOT NULL,
        last_used_at INTEGER NOT NULL,
        used INTEGER NOT NULL DEFAULT 1,
        subject TEXT
    ) STRICT, WITHOUT ROWID
"""

# Columns that tables of earlier releases lack. They did not record when a client was used, so its lifetime starts with
# the migration; nor whether it ever got a token, so all of them count as used.
_COLUMNS_SINCE = {
    "last_used_at": (
        "ALTER TABLE clients ADD COLUMN last_used_at INTEGER NOT NULL DEFAULT 0",
        "UPDATE clients SET last_used_at = CAST(strftime('%s', 'now') AS INTEGER)",
    ),
    "used": ("ALTER TABLE clients ADD COLUMN used INTEGER NOT NULL DEFAULT 1",),
    "subject": ("ALTER TABLE clients ADD COLUMN subject TEXT",),
}

# Triggers keep the number of clients, because counting them takes longer than adding one.
_COUNTED = (
    "CREATE TABLE IF NOT EXISTS client_count (total INTEGER NOT NULL, checks INTEGER NOT NULL) STRICT",
    "DELETE FROM client_count",
    "INSERT INTO client_count SELECT count(*), 0 FROM clients",
    (
        "CREATE TRIGGER IF NOT EXISTS client_added AFTER INSERT ON clients "
        "BEGIN UPDATE client_count SET total = total + 1; END"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS client_removed AFTER DELETE ON clients "
        "BEGIN UPDATE client_count SET total = total - 1; END"
    ),
    # Of clients in use only: registrations do not pay for it.
    "CREATE INDEX clients_by_subject ON clients (subject, last_used_at) WHERE subject IS NOT NULL",
)
_IS_CURRENT = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = 'clients_by_subject'"

_COLUMNS = "client_id, issued_at, redirect_uris, token_endpoint_auth_method, secret_hash, metadata, last_used_at, used"
_ALIVE = "last_used_at >= CASE used WHEN 0 THEN :unused_since ELSE :used_since END"
_SELECT = f"SELECT {_COLUMNS} FROM clients WHERE client_id = :client_id AND {_ALIVE}"  # noqa: S608 - all of it is ours
_INSERT = f"""
    INSERT INTO clients ({_COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, 0 WHERE (SELECT total FROM client_count) < ?
"""  # noqa: S608 - the same
_EVICT = """
    DELETE FROM clients WHERE client_id IN (
        SELECT client_id FROM clients WHERE used = 0 AND last_used_at < :protected ORDER BY last_used_at
        LIMIT (SELECT min(max(total - :quota + 1, :quota / 100, 1), :at_once) FROM client_count)
    )
"""
_MARK = """
    UPDATE clients SET last_used_at = :now, used = 1, subject = coalesce(subject, :subject)
    WHERE client_id = :client_id
"""
_EVICT_OF_SUBJECT = """
    DELETE FROM clients WHERE client_id IN (
        SELECT client_id FROM clients
        WHERE subject = (SELECT subject FROM clients WHERE client_id = :client_id) AND client_id != :client_id
        ORDER BY last_used_at DESC LIMIT -1 OFFSET :others
    )
"""
_DELETE = f"DELETE FROM clients WHERE client_id = :client_id AND {_ALIVE}"  # noqa: S608 - the same
_CLEAR = f"""
    DELETE FROM clients WHERE client_id IN (SELECT client_id FROM clients WHERE NOT ({_ALIVE}) LIMIT :at_once)
"""  # noqa: S608 - the same
_CHECK = "UPDATE client_count SET checks = checks + 1 RETURNING total"  # SQLite writes nothing if nothing changes
_FOUND = f"""
    FROM clients WHERE {_ALIVE} AND (:name = '' OR instr(lower(json_extract(metadata, '$.client_name')), lower(:name)))
"""
_PAGE = f"SELECT {_COLUMNS} {_FOUND} ORDER BY last_used_at DESC, client_id LIMIT :limit OFFSET :offset"
_COUNT = f"SELECT count(*) {_FOUND}"

_Row = tuple[str, int, str, str, bytes | None, str, int, int]


class SqliteClientStore:
    """A `RegisteredClients` in one SQLite database.

    A client that is not used for `client_days` is deleted, one that never got a token after a day.
    """

    def __init__(
        self,
        database: Database,
        client_days: float = 90,
        quota: int = QUOTA,
        per_subject: int = PER_SUBJECT,
        now: Callable[[], float] = time,
    ) -> None:
        """`now` counts seconds since the epoch; at most `quota` clients are kept, `per_subject` of them of one user."""
        database.on_connect(_set_up)
        self._database = database
        self._client_days = client_days
        self._quota = quota
        self._per_subject = clients_per_subject(per_subject, quota)
        self._now = now
        self._clear_at = 0.0
        self._full_at = float("-inf")

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered (any more)."""
        stored = self._read(client_id)
        return None if stored is None else stored.client

    async def add(self, client: Client) -> None:
        """Add a new client, visible to every process when this returns."""
        now = self._now()
        if now >= self._clear_at:
            self._clear_at = now + _CLEARED_EVERY
            await self._clear()
        row = (*_row(client), int(now), self._quota)

        def insert(connection: sqlite3.Connection) -> bool:
            return connection.execute(_INSERT, row).rowcount == 1

        if not await self._database.write(insert) and not await self._replace(insert, now):
            raise QuotaExhaustedError

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        """Record that the client got a token now."""
        parameters = {
            "client_id": client_id,
            "now": int(self._now()),
            "subject": None if subject is None else hash_subject(subject),
            "others": self._per_subject - 1,
        }

        def work(connection: sqlite3.Connection) -> None:
            with connection:  # commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_MARK, parameters)
                connection.execute(_EVICT_OF_SUBJECT, parameters)

        await self._database.write(work)

    async def search(self, name: str, *, offset: int, limit: int) -> ClientPage:
        """The clients with `name` in their `client_name`, the ones used or registered last first."""
        wanted = {**self._alive(), "name": name, "offset": offset, "limit": limit}

        def work(connection: sqlite3.Connection) -> ClientPage:
            (total,) = connection.execute(_COUNT, wanted).fetchone()
            return ClientPage([_stored(row) for row in connection.execute(_PAGE, wanted)], total)

        return self._database.read(work)

    async def look_up(self, client_id: str) -> StoredClient | None:
        """The client and when it was used."""
        return self._read(client_id)

    async def remove(self, client_id: str) -> bool:
        """Delete a client; False if there was none."""
        wanted = {**self._alive(), "client_id": client_id}
        return await self._database.write(lambda connection: connection.execute(_DELETE, wanted).rowcount > 0)

    async def check(self) -> int:
        """Return when the database can be read and written: the number of clients."""
        ((total,),) = await self._database.write(lambda connection: connection.execute(_CHECK).fetchall())
        return int(total)

    async def aclose(self) -> None:
        """Close the database."""
        await self._database.aclose()

    def _alive(self) -> dict[str, object]:
        unused_since, used_since = forgotten_since(self._now(), self._client_days)
        return {"unused_since": unused_since, "used_since": used_since}

    def _read(self, client_id: str) -> StoredClient | None:
        wanted = {**self._alive(), "client_id": client_id}
        row = self._database.read(lambda connection: connection.execute(_SELECT, wanted).fetchone())
        return None if row is None else _stored(row)

    async def _replace(self, insert: Work[bool], now: float) -> bool:
        """Evict the oldest of the clients that never got a token, and then `insert`."""
        if 0 <= now - self._full_at < _SCANNED_AGAIN_AFTER:
            return False
        room = {"protected": int(now) - PROTECTED, "quota": self._quota, "at_once": _EVICTED_AT_ONCE}

        def work(connection: sqlite3.Connection) -> tuple[int, bool]:
            with connection:  # commits, or rolls back
                connection.execute("BEGIN IMMEDIATE")
                return connection.execute(_EVICT, room).rowcount, insert(connection)

        evicted, added = await self._database.write_patiently(work)
        if not evicted and not added:
            self._full_at = now
        return added

    async def _clear(self) -> None:
        expired = {**self._alive(), "at_once": _CLEARED_AT_ONCE}
        # A registration must not fail because of it.
        with suppress(StoreError):
            await self._database.write_patiently(lambda connection: connection.execute(_CLEAR, expired))


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    if not _is_current(connection):
        with connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            if not _is_current(connection):  # another process may have been first
                known = {name for _, name, *_ in connection.execute("PRAGMA table_info(clients)")}
                missing = [statements for column, statements in _COLUMNS_SINCE.items() if column not in known]
                for statement in (*chain.from_iterable(missing), *_COUNTED):
                    connection.execute(statement)


def _is_current(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute(_IS_CURRENT).fetchone()[0])


def _row(client: Client) -> tuple[object, ...]:
    return (
        client.client_id,
        client.issued_at,
        orjson.dumps(client.redirect_uris).decode(),
        client.token_endpoint_auth_method,
        client.secret_hash,
        orjson.dumps(client.metadata).decode(),
    )


def _stored(row: _Row) -> StoredClient:
    client_id, issued_at, redirect_uris, method, secret_hash, metadata, last_used_at, used = row
    client = Client(
        client_id=client_id,
        issued_at=issued_at,
        redirect_uris=tuple(orjson.loads(redirect_uris)),
        token_endpoint_auth_method=method,  # type: ignore[arg-type]  # only such values are written
        secret_hash=secret_hash,
        metadata=orjson.loads(metadata),
    )
    return StoredClient(client, last_used_at if used else None)
