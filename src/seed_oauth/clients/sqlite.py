"""Clients in SQLite: a file shared by all processes of one host, or memory for tests."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson

from seed_oauth.clients import Client, StoreError

URL_PREFIX = "sqlite:///"

_BUSY_TIMEOUT = 2.0  # seconds that one process waits for another's write

_WRITES_PER_CHECKPOINT = 1024

_SET_UP = (
    "PRAGMA journal_mode = WAL",
    # A power cut may lose the last registrations, never the file; their clients register again.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 0",
    """
    CREATE TABLE IF NOT EXISTS clients (
        client_id TEXT PRIMARY KEY,
        issued_at INTEGER NOT NULL,
        redirect_uris TEXT NOT NULL,
        token_endpoint_auth_method TEXT NOT NULL,
        secret_hash BLOB,
        metadata TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
_SELECT = "SELECT * FROM clients WHERE client_id = ?"
_INSERT = "INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?)"


class SqliteClientStore:
    """A `ClientStore` in one SQLite database, created on first use.

    Both reads and writes run on the event loop, where one costs less than handing it to a thread: in WAL
    mode a read never waits for a writer, and a write goes to the page cache. Only what may take long has a
    thread and a connection of its own: waiting for another process's write, and checkpoints, which fsync.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet. `url` is `sqlite:///file`, `sqlite:////absolute/file` or `sqlite:///:memory:`."""
        self._path = url.removeprefix(URL_PREFIX)
        self._in_memory = self._path == ":memory:"
        self._at_once: sqlite3.Connection | None = None
        self._patient: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="client-store")
        self._written = 0

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered."""
        try:
            row = self._connection().execute(_SELECT, (client_id,)).fetchone()
            return _client(row) if row else None
        except (sqlite3.Error, OSError, ValueError) as failure:
            raise self._failed(failure) from failure

    async def add(self, client: Client) -> None:
        """Keep a new client, visible to every process when this returns."""
        row = _row(client)
        try:
            self._connection().execute(_INSERT, row)
        except sqlite3.OperationalError:
            await self._in_thread(self._insert_patiently, row)
        except (sqlite3.Error, OSError) as failure:
            raise self._failed(failure) from failure
        self._written += 1
        if self._written % _WRITES_PER_CHECKPOINT == 0 and not self._in_memory:
            await self._in_thread(self._checkpoint)

    async def check(self) -> None:
        """Return when the database can be read."""
        await self.get("")

    async def aclose(self) -> None:
        """Close the connections, after the writes that are under way."""
        await self._in_thread(self._close_patient)
        self._close_at_once()

    async def _in_thread(self, work: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _connection(self) -> sqlite3.Connection:
        if self._at_once is None:
            self._at_once = self._connect(timeout=0)
        return self._at_once

    def _failed(self, failure: Exception) -> StoreError:
        # Start afresh next time, so that a database that comes back is used again.
        if not self._in_memory:
            self._close_at_once()
        return StoreError(type(failure).__name__)

    def _insert_patiently(self, row: tuple[object, ...]) -> None:
        try:
            if self._patient is None:
                self._patient = self._connect(timeout=_BUSY_TIMEOUT)
            self._patient.execute(_INSERT, row)
        except (sqlite3.Error, OSError) as failure:
            self._close_patient()
            raise StoreError(type(failure).__name__) from failure

    def _checkpoint(self) -> None:
        try:
            if self._patient is None:
                self._patient = self._connect(timeout=_BUSY_TIMEOUT)
            self._patient.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (sqlite3.Error, OSError):
            # The registration itself is safe in the log; the next checkpoint takes care of it.
            self._close_patient()

    def _connect(self, timeout: float) -> sqlite3.Connection:
        if not self._in_memory:
            # Whoever can read the file learns who may log in where; SQLite would make it world-readable.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            for statement in _SET_UP:
                connection.execute(statement)
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


def _row(client: Client) -> tuple[object, ...]:
    return (
        client.client_id,
        client.issued_at,
        orjson.dumps(client.redirect_uris).decode(),
        client.token_endpoint_auth_method,
        client.secret_hash,
        orjson.dumps(client.metadata).decode(),
    )


def _client(row: tuple[object, ...]) -> Client:
    client_id, issued_at, redirect_uris, method, secret_hash, metadata = row
    return Client(
        client_id=client_id,  # type: ignore[arg-type]
        issued_at=issued_at,  # type: ignore[arg-type]
        redirect_uris=tuple(orjson.loads(redirect_uris)),  # type: ignore[arg-type]
        token_endpoint_auth_method=method,  # type: ignore[arg-type]
        secret_hash=secret_hash,  # type: ignore[arg-type]
        metadata=orjson.loads(metadata),  # type: ignore[arg-type]
    )
