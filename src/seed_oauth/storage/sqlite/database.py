"""One SQLite database, created on first use: a file shared by all processes of one host, or in memory for tests."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from seed_oauth.outcomes.errors import StoreError, in_words
from seed_oauth.settings.store_url import SQLITE, default_store_url

_BUSY_TIMEOUT = 2.0  # seconds to wait for the write of another process

_WRITES_PER_CHECKPOINT = 1024

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # A power cut may lose the last writes, but never the file; clients whose data is lost register or log in again.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 0",
)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]
SetUp = Callable[[sqlite3.Connection], None]


class Database:
    """Runs short pieces of work on a connection.

    Reads and writes run on the event loop, where they cost less than a hand-over to a thread: in WAL mode a read
    never waits for a writer, and a write goes to the page cache. Only work that may take long has a thread and a
    connection of its own: waiting for the write of another process, and checkpoints, which call fsync.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet. `url` is `sqlite:///file`, `sqlite:////absolute/file` or `sqlite:///:memory:`."""
        self._path = url.removeprefix(SQLITE)
        self._in_memory = self._path == ":memory:"
        self._at_once: sqlite3.Connection | None = None
        self._patient: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._written = 0
        self._set_ups: dict[SetUp, None] = {}

    def on_connect(self, set_up: SetUp) -> None:
        """Have every new connection set up, such as with the table of a store; call it before anything is read."""
        self._set_ups[set_up] = None

    def read(self, work: Work[Result]) -> Result:
        """The result of `work`, which only reads.

        Raises:
            StoreError: the database does not work.
        """
        try:
            return work(self._connection())
        except (sqlite3.Error, OSError, ValueError) as failure:
            raise self._failed(failure) from failure

    async def write(self, work: Work[Result]) -> Result:
        """The result of `work`, which writes; when this returns, every process sees the change.

        `work` must begin with a statement that takes the write lock, because it is repeated if the lock is not free.

        Raises:
            StoreError: the database does not work.
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
        """The same for work that may take long, without blocking the event loop.

        Raises:
            StoreError: the database does not work.
        """
        if self._in_memory:  # it has one connection, and no other process writes to it
            return self._patiently(work)
        return await self._in_thread(self._patiently, work)

    async def aclose(self) -> None:
        """Close the connections, after the writes that are under way. The database can be used again afterwards."""
        await self._in_thread(self._close_patient)
        self._close_at_once()

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _connection(self) -> sqlite3.Connection:
        if self._at_once is None:
            self._at_once = self._connect(timeout=0)
        return self._at_once

    def _failed(self, failure: Exception) -> StoreError:
        # Reconnect next time, so that a database that is back is used again.
        if not self._in_memory:
            self._close_at_once()
        return _store_error(failure)

    def _patiently(self, work: Work[Result]) -> Result:
        try:
            return work(self._connection() if self._in_memory else self._patient_connection())
        except (sqlite3.Error, OSError, ValueError) as failure:
            self._close_patient()
            raise _store_error(failure) from failure

    def _checkpoint(self) -> None:
        try:
            connection = self._patient_connection()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # Frames written in the meantime would keep the log from being reset. Writes wait for this small rest.
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except (sqlite3.Error, OSError):
            # The log is intact, and the next checkpoint will include it.
            self._close_patient()

    def _patient_connection(self) -> sqlite3.Connection:
        if self._patient is None:
            self._patient = self._connect(timeout=_BUSY_TIMEOUT)
        return self._patient

    def _connect(self, timeout: float) -> sqlite3.Connection:
        if not self._in_memory:
            if self._path == default_store_url().removeprefix(SQLITE):
                Path(self._path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite would make the file world-readable, with the redirect URIs of all clients in it. An existing file
            # is not opened: closing it would drop the locks of this process's other connections, and the next process
            # that closes the database would think that it is the last one, and delete the log.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        # Another process may be migrating the database; wait for it.
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            for set_up in self._set_ups:
                set_up(connection)
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


def _store_error(failure: Exception) -> StoreError:
    # SQLite's messages name no values.
    return StoreError(str(failure) if isinstance(failure, sqlite3.Error) else in_words(failure))
