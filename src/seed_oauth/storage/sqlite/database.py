"""One SQLite database, a file shared by all processes of one host or memory for tests, created on first use."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import TypeVar

from seed_oauth.errors import StoreError
from seed_oauth.settings.store_url import SQLITE

_BUSY_TIMEOUT = 2.0  # seconds that one process waits for another's write

_WRITES_PER_CHECKPOINT = 1024

_SET_UP = (
    "PRAGMA journal_mode = WAL",
    # A power cut may lose the last writes, never the file; what was lost makes clients register or log in again.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 0",
    """
    CREATE TABLE IF NOT EXISTS clients (
        client_id TEXT PRIMARY KEY,
        issued_at INTEGER NOT NULL,
        redirect_uris TEXT NOT NULL,
        token_endpoint_auth_method TEXT NOT NULL,
        secret_hash BLOB,
        metadata TEXT NOT NULL,
        last_used_at INTEGER NOT NULL,
        used INTEGER NOT NULL DEFAULT 1
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS grants (
        grant_id TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        taken_until REAL,
        answered_at REAL,
        answer TEXT,
        revoked INTEGER NOT NULL DEFAULT 0,
        expires_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS grants_by_expiry ON grants (expires_at)",
    """
    CREATE TABLE IF NOT EXISTS assertions (
        assertion_hash BLOB PRIMARY KEY,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS assertions_by_expiry ON assertions (expires_at)",
)

# What tables of earlier releases lack. Release 0.1.0 did not note when a client was used: nobody knows now, so their
# time begins with the migration. Whether one ever got a token was not noted either, so they all count as used.
_COLUMNS_SINCE = {
    "last_used_at": (
        "ALTER TABLE clients ADD COLUMN last_used_at INTEGER NOT NULL DEFAULT 0",
        "UPDATE clients SET last_used_at = CAST(strftime('%s', 'now') AS INTEGER)",
    ),
    "used": ("ALTER TABLE clients ADD COLUMN used INTEGER NOT NULL DEFAULT 1",),
}

# How many clients there are is counted along, because to count them anew takes longer than to add one.
_COUNTED = (
    "CREATE TABLE IF NOT EXISTS client_count (total INTEGER NOT NULL, checks INTEGER NOT NULL) STRICT",
    "DELETE FROM client_count",
    "INSERT INTO client_count SELECT count(*), 0 FROM clients",
    "CREATE TRIGGER client_added AFTER INSERT ON clients BEGIN UPDATE client_count SET total = total + 1; END",
    "CREATE TRIGGER client_removed AFTER DELETE ON clients BEGIN UPDATE client_count SET total = total - 1; END",
)
_IS_CURRENT = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = 'client_removed'"

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]


class Database:
    """Runs short pieces of work on a connection.

    Both reads and writes run on the event loop, where one costs less than handing it to a thread: in WAL
    mode a read never waits for a writer, and a write goes to the page cache. Only what may take long has a
    thread and a connection of its own: waiting for another process's write, and checkpoints, which fsync.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet. `url` is `sqlite:///file`, `sqlite:////absolute/file` or `sqlite:///:memory:`."""
        self._path = url.removeprefix(SQLITE)
        self._in_memory = self._path == ":memory:"
        self._at_once: sqlite3.Connection | None = None
        self._patient: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._written = 0

    def read(self, work: Work[Result]) -> Result:
        """What `work` reads.

        Raises:
            StoreError: the database cannot answer.
        """
        try:
            return work(self._connection())
        except (sqlite3.Error, OSError, ValueError) as failure:
            raise self._failed(failure) from failure

    async def write(self, work: Work[Result]) -> Result:
        """Have `work` change something; when this returns, every process sees it.

        `work` must begin with what takes the write lock, because it is done again if that is not to be had.

        Raises:
            StoreError: the database cannot answer.
        """
        try:
            result = work(self._connection())
        except sqlite3.OperationalError:
            result = await self.write_patiently(work)
        except (sqlite3.Error, OSError, ValueError) as failure:
            raise self._failed(failure) from failure
        self._written += 1
        if self._written % _WRITES_PER_CHECKPOINT == 0 and not self._in_memory:
            await self._in_thread(self._checkpoint)
        return result

    async def write_patiently(self, work: Work[Result]) -> Result:
        """The same for what may take long: the event loop goes on meanwhile.

        Raises:
            StoreError: the database cannot answer.
        """
        if self._in_memory:  # which nobody else writes to, and which has one connection
            return self._patiently(work)
        return await self._in_thread(self._patiently, work)

    async def aclose(self) -> None:
        """Close the connections, after the writes that are under way. It can be used again afterwards."""
        await self._in_thread(self._close_patient)
        self._close_at_once()

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _connection(self) -> sqlite3.Connection:
        if self._at_once is None:
            self._at_once = self._connect(timeout=0)
        return self._at_once

    def _failed(self, failure: Exception) -> StoreError:
        # Start afresh next time, so that a database that comes back is used again.
        if not self._in_memory:
            self._close_at_once()
        return StoreError(type(failure).__name__)

    def _patiently(self, work: Work[Result]) -> Result:
        try:
            return work(self._connection() if self._in_memory else self._patient_connection())
        except (sqlite3.Error, OSError, ValueError) as failure:
            self._close_patient()
            raise StoreError(type(failure).__name__) from failure

    def _checkpoint(self) -> None:
        try:
            connection = self._patient_connection()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # What was written meanwhile would keep the log from ever beginning anew. For this little rest writes wait.
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except (sqlite3.Error, OSError):
            # What was written is safe in the log; the next checkpoint takes care of it.
            self._close_patient()

    def _patient_connection(self) -> sqlite3.Connection:
        if self._patient is None:
            self._patient = self._connect(timeout=_BUSY_TIMEOUT)
        return self._patient

    def _connect(self, timeout: float) -> sqlite3.Connection:
        if not self._in_memory:
            # Whoever can read the file learns who may log in where; SQLite would make it world-readable. A file that is
            # there is not opened: closing it would drop the locks that this process has on it by another connection,
            # and the next process that closes the database would take itself for the last and delete the log.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        # Another process may be migrating the database: that is worth waiting for.
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            for statement in _SET_UP:
                connection.execute(statement)
            _migrate(connection)
            connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _close_at_once(self) -> None:
        if self._at_once is not None:
            self._at_once.close()
            self._at_once = None

    def _close_patient(self) -> None:
        if self._patient is not None:
            self._patient.close()
            self._patient = None


def _migrate(connection: sqlite3.Connection) -> None:
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
