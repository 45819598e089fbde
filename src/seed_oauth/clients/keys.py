"""The keys by which clients authenticate."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import httpx

from seed_oauth.clients import BadClientDocumentError, Client
from seed_oauth.clients.published import PublishedDocuments
from seed_oauth.protocol.jwk import BadKeysError, PublicKey, read_jwk_set

MAXIMUM_JWK_SET = 32 * 1024
"""Bytes of a JWK Set; one with certificates in it is some 10 KiB."""

REFETCH_AFTER = 60.0
"""Seconds after which a key that is not known makes the set be fetched again, however many such keys are named."""


class ClientKeys:
    """The keys of any client, from its metadata or from where they are published."""

    def __init__(self, transport: httpx.AsyncBaseTransport, clock: Callable[[], float] = monotonic) -> None:
        """`transport` and `clock` are as `PublishedDocuments` asks."""
        self._published = PublishedDocuments(transport, _read, limit=MAXIMUM_JWK_SET, clock=clock)

    async def find(self, client: Client, key_id: str | None) -> Sequence[PublicKey]:
        """The client's keys that are named so; all of them for None.

        Raises:
            BadClientDocumentError: what it publishes is no set of keys.
            ClientDocumentUnavailableError: the set cannot be had now.
        """
        if client.jwks_uri is None:
            return _named(_read("", client.jwks or {}), key_id)
        found = _named(await self._published.get(client.jwks_uri), key_id)
        # The client may have a new key since; but nobody makes us ask all the time by making names up.
        return found or _named(await self._published.get(client.jwks_uri, asked_within=REFETCH_AFTER), key_id)

    async def aclose(self) -> None:
        """Give up what is on its way."""
        await self._published.aclose()


def _read(_: str, jwk_set: Mapping[str, object]) -> tuple[PublicKey, ...]:
    try:
        return read_jwk_set(jwk_set)
    except BadKeysError as bad:
        raise BadClientDocumentError(f"breaks a rule: its JWK Set {bad}") from bad


def _named(keys: Sequence[PublicKey], key_id: str | None) -> Sequence[PublicKey]:
    return keys if key_id is None else [key for key in keys if key.get("kid") == key_id]
