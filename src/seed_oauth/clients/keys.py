"""The keys that verify client assertions."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import httpx

from seed_oauth.clients import BadClientDocumentError, Client
from seed_oauth.clients.archive import DocumentArchive
from seed_oauth.clients.published import PublishedDocuments, Record
from seed_oauth.protocol.jwk import BadKeysError, PublicKey, read_jwk_set

MAXIMUM_JWK_SET = 32 * 1024
"""Bytes of a JWK Set; one that contains certificates has about 10 KiB."""

REFETCH_AFTER = 60.0
"""Seconds between two fetches of a set, however many assertions name unknown keys."""


class ClientKeys:
    """The keys of any client, from its metadata or from its `jwks_uri`."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        archive: DocumentArchive | None = None,
        record: Record = lambda *_: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`transport`, `archive`, `record` and `clock` are those of `PublishedDocuments`."""
        self._published = PublishedDocuments(
            transport, _read, limit=MAXIMUM_JWK_SET, archive=archive, record=record, clock=clock
        )

    async def find(self, client: Client, key_id: str | None) -> Sequence[PublicKey]:
        """The client's keys with this `kid`; all of them for None.

        Raises:
            BadClientDocumentError: what it publishes is not a set of keys.
            ClientDocumentUnavailableError: the set cannot be fetched now.
        """
        if client.jwks_uri is None:
            return _named(_read("", client.jwks or {}), key_id)
        found = _named(await self._published.get(client.jwks_uri), key_id)
        # The client may have a new key. Made-up key ids must not cause a fetch each.
        return found or _named(await self._published.get(client.jwks_uri, within=REFETCH_AFTER), key_id)

    async def keep(self, client: Client) -> None:
        """Archive the set that the client publishes: it is in use."""
        if client.jwks_uri is not None:
            await self._published.keep(client.jwks_uri)

    async def aclose(self) -> None:
        """Cancel the fetches that are under way."""
        await self._published.aclose()


def _read(_: str, jwk_set: Mapping[str, object]) -> tuple[PublicKey, ...]:
    try:
        return read_jwk_set(jwk_set)
    except BadKeysError as bad:
        raise BadClientDocumentError(f"breaks a rule: its JWK Set {bad}") from bad


def _named(keys: Sequence[PublicKey], key_id: str | None) -> Sequence[PublicKey]:
    return keys if key_id is None else [key for key in keys if key.get("kid") == key_id]
