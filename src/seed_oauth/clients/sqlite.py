"""Clients in SQLite."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from time import time

import orjson

from seed_oauth.clients import Client, ClientPage, StoredClient, StoreError
from seed_oauth.database import Database

_DAY = 86_400

# Registrations make the table grow, so every so often one of them has cleared away what has expired. Without an index,
# which every registration would pay for; so the whole table is looked through, in a thread.
_CLEARED_EVERY = 3600.0  # seconds
_CLEARED_AT_ONCE = 10_000

_COLUMNS = "client_id, issued_at, redirect_uris, token_endpoint_auth_method, secret_hash, metadata, last_used_at"
_SELECT = f"SELECT {_COLUMNS} FROM clients WHERE client_id = ? AND last_used_at >= ?"  # noqa: S608 - the columns are ours
_INSERT = f"INSERT INTO clients ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - the same
_TOUCH = "UPDATE clients SET last_used_at = ? WHERE client_id = ?"
_DELETE = "DELETE FROM clients WHERE client_id = ? AND last_used_at >= ?"
_CLEAR = """
    DELETE FROM clients WHERE client_id IN (SELECT client_id FROM clients WHERE last_used_at < ? LIMIT ?)
"""
_FOUND = """
    FROM clients WHERE last_used_at >= :oldest
    AND (:name = '' OR instr(lower(json_extract(metadata, '$.client_name')), lower(:name)))
"""
_PAGE = f"SELECT {_COLUMNS} {_FOUND} ORDER BY last_used_at DESC, client_id LIMIT :limit OFFSET :offset"
_COUNT = f"SELECT count(*) {_FOUND}"

_Row = tuple[str, int, str, str, bytes | None, str, int]


class SqliteClientStore:
    """A `ClientStore` and `ClientDirectory` in one SQLite database.

    A client that is not used for `client_days` is forgotten (PROTOCOL R6). The last use is written at most
    once a day, so a client may live up to a day longer than that, and never shorter.
    """

    def __init__(self, database: Database, client_days: float = 90, now: Callable[[], float] = time) -> None:
        """`now` counts seconds since the epoch."""
        self._database = database
        self._lifetime = client_days * _DAY
        self._now = now
        self._clear_at = 0.0

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered (any more). It counts as used now."""
        stored = self._read(client_id)
        if stored is None:
            return None
        now = int(self._now())
        if now - stored.last_used_at >= _DAY:
            await self._touch(client_id, now)
        return stored.client

    async def add(self, client: Client) -> None:
        """Keep a new client, visible to every process when this returns."""
        now = self._now()
        if now >= self._clear_at:
            self._clear_at = now + _CLEARED_EVERY
            await self._clear()
        row = (*_row(client), int(now))
        await self._database.write(lambda connection: connection.execute(_INSERT, row))

    async def search(self, name: str, *, offset: int, limit: int) -> ClientPage:
        """The clients that have `name` in their `client_name`, those used last first."""
        wanted = {"name": name, "oldest": self._oldest(), "offset": offset, "limit": limit}

        def work(connection: sqlite3.Connection) -> ClientPage:
            (total,) = connection.execute(_COUNT, wanted).fetchone()
            return ClientPage([_stored(row) for row in connection.execute(_PAGE, wanted)], total)

        return self._database.read(work)

    async def look_up(self, client_id: str) -> StoredClient | None:
        """The client, which does not count as used for that."""
        return self._read(client_id)

    async def remove(self, client_id: str) -> bool:
        """Forget a client; False when there was none."""
        parameters = (client_id, self._oldest())
        return await self._database.write(lambda connection: connection.execute(_DELETE, parameters).rowcount > 0)

    async def check(self) -> None:
        """Return when the database can be read."""
        self._read("")

    async def aclose(self) -> None:
        """Close the database."""
        await self._database.aclose()

    def _oldest(self) -> int:
        """The last use before which a client is forgotten, with the day that the last use is known to."""
        return int(self._now() - self._lifetime - _DAY)

    def _read(self, client_id: str) -> StoredClient | None:
        parameters = (client_id, self._oldest())
        row = self._database.read(lambda connection: connection.execute(_SELECT, parameters).fetchone())
        return None if row is None else _stored(row)

    async def _clear(self) -> None:
        parameters = (self._oldest(), _CLEARED_AT_ONCE)
        # What is left lying fails no registration.
        with suppress(StoreError):
            await self._database.write_patiently(lambda connection: connection.execute(_CLEAR, parameters))

    async def _touch(self, client_id: str, now: int) -> None:
        try:
            await self._database.write(lambda connection: connection.execute(_TOUCH, (now, client_id)))
        except StoreError:
            # Nobody's login fails because of a date; it is written with the next use.
            return


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
    client_id, issued_at, redirect_uris, method, secret_hash, metadata, last_used_at = row
    client = Client(
        client_id=client_id,
        issued_at=issued_at,
        redirect_uris=tuple(orjson.loads(redirect_uris)),
        token_endpoint_auth_method=method,  # type: ignore[arg-type]  # what was written was one of them
        secret_hash=secret_hash,
        metadata=orjson.loads(metadata),
    )
    return StoredClient(client, last_used_at)
