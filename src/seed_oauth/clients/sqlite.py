"""Clients in SQLite."""

import orjson

from seed_oauth.clients import Client
from seed_oauth.database import Database

_SELECT = "SELECT * FROM clients WHERE client_id = ?"
_INSERT = "INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?)"


class SqliteClientStore:
    """A `ClientStore` in one SQLite database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered."""
        return self._database.read(lambda connection: _client(connection.execute(_SELECT, (client_id,)).fetchone()))

    async def add(self, client: Client) -> None:
        """Keep a new client, visible to every process when this returns."""
        await self._database.write(lambda connection: connection.execute(_INSERT, _row(client)))

    async def check(self) -> None:
        """Return when the database can be read."""
        await self.get("")

    async def aclose(self) -> None:
        """Close the database."""
        await self._database.aclose()


def _row(client: Client) -> tuple[object, ...]:
    return (
        client.client_id,
        client.issued_at,
        orjson.dumps(client.redirect_uris).decode(),
        client.token_endpoint_auth_method,
        client.secret_hash,
        orjson.dumps(client.metadata).decode(),
    )


def _client(row: tuple[object, ...] | None) -> Client | None:
    if row is None:
        return None
    client_id, issued_at, redirect_uris, method, secret_hash, metadata = row
    return Client(
        client_id=client_id,  # type: ignore[arg-type]
        issued_at=issued_at,  # type: ignore[arg-type]
        redirect_uris=tuple(orjson.loads(redirect_uris)),  # type: ignore[arg-type]
        token_endpoint_auth_method=method,  # type: ignore[arg-type]
        secret_hash=secret_hash,  # type: ignore[arg-type]
        metadata=orjson.loads(metadata),  # type: ignore[arg-type]
    )
