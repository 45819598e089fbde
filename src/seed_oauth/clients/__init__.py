"""Clients: what is known of them, where they are stored, and how they authenticate."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from seed_oauth.outcomes import GrantType
from seed_oauth.outcomes.errors import StoreError

__all__ = [
    "BadClientDocumentError",
    "Client",
    "ClientDirectory",
    "ClientDocumentUnavailableError",
    "ClientNotAllowedError",
    "ClientPage",
    "ClientStore",
    "QuotaExhaustedError",
    "RegisteredClients",
    "StoredClient",
    "TokenEndpointAuthMethod",
    "clients_per_subject",
    "hash_secret",
    "hash_subject",
    "new_client_id",
    "new_client_secret",
]

TokenEndpointAuthMethod = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]


_DAY = 86_400

UNUSED_LIFETIME = _DAY
"""Seconds after which a client that never got a token is deleted."""

PROTECTED = 10
"""Seconds for which a new client is not evicted, even if the quota is exhausted.

A flood that fills the quota faster than this blocks new registrations; with more seconds, a slower one could. A flood
that fills it within the time of a login evicts clients that have just registered."""

PER_SUBJECT = 50
"""Registered clients kept for one user by default; more than half of the quota is never theirs."""

QUOTA = 100_000
"""The default for the maximum number of registered clients."""


def forgotten_since(now: float, client_days: float) -> tuple[int, int]:
    """The registration before which an unused client is deleted, and the last use before which a used one is.

    The last use is recorded to the day, so a client may be kept up to a day longer than `client_days`.
    """
    return int(now - UNUSED_LIFETIME), int(now - (client_days + 1) * _DAY)


def clients_per_subject(limit: int, quota: int) -> int:
    """How many registered clients are kept for one user."""
    return min(limit, max(1, quota // 2))


def hash_subject(subject: str) -> str:
    """What is stored of a user. It only has to tell users apart."""
    return hashlib.sha256(subject.encode()).hexdigest()[:32]


class QuotaExhaustedError(Exception):
    """The quota of clients is exhausted, and all of them are used or were registered just now."""


class BadClientDocumentError(Exception):
    """A document that a client publishes breaks a rule; the message says which, without quoting the document."""


class ClientNotAllowedError(BadClientDocumentError):
    """The operator does not allow clients from there; the message says whom to ask."""


class ClientDocumentUnavailableError(StoreError):
    """A document that a client publishes cannot be fetched now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client (RFC 7591 §2), as far as later requests need it."""

    client_id: str
    issued_at: int
    """Seconds since the epoch (`client_id_issued_at`); 0 for a client that did not register here."""
    redirect_uris: tuple[str, ...]
    token_endpoint_auth_method: TokenEndpointAuthMethod = "none"  # noqa: S105 - a method's name
    secret_hash: bytes | None = None
    preregistered: bool = False
    """Whether the operator registered it in the settings, and so trusts its redirect URIs."""
    trusted: bool = False
    """Whether the operator trusts it, so that its users are not asked for consent."""
    scope: str | None = None
    """The scopes that the operator lets it ask for; None for any."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """The rest of its metadata, for people to read: `client_name`, `client_uri` …"""
    jwks: Mapping[str, object] | None = None
    """The keys for private_key_jwt; None if it has none, or publishes them at `jwks_uri`."""
    jwks_uri: str | None = None

    @property
    def consent_can_be_remembered(self) -> bool:
        """Whether a consent to it can stand for another login later.

        Not where others know its client_id, and can redeem a code with the verifier alone: a malicious authorization
        server could send its own users here in this client's name (RFC 9700 §4.4).
        """
        if self.client_id.startswith("https://"):
            return False
        return not self.preregistered or self.token_endpoint_auth_method != "none"  # noqa: S105 - a method's name

    def may(self, grant_type: GrantType) -> bool:
        """Whether this client has registered `grant_type`; a client that names none has registered all."""
        grant_types = self.metadata.get("grant_types")
        return not isinstance(grant_types, list) or grant_type in grant_types

    def has_secret(self, secret: str) -> bool:
        """Whether `secret` is this client's, compared in constant time."""
        return self.secret_hash is not None and hmac.compare_digest(hash_secret(secret), self.secret_hash)


class ClientStore(Protocol):
    """A store of registered clients. Every method raises `StoreError` if the store does not work."""

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered (any more).

        Raises:
            BadClientDocumentError: its client_id is the URL of a document, which breaks a rule.
            ClientDocumentUnavailableError: that document cannot be fetched now.
        """
        ...

    async def add(self, client: Client) -> None:
        """Add a new client; when this returns, other processes see it, too.

        If the quota is exhausted, it replaces the oldest of the clients that never got a token, unless that one
        registered within the last `PROTECTED` seconds.

        Raises:
            QuotaExhaustedError: there is no client to replace.
        """
        ...

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        """Record that the client got a token now: one that never did is deleted after `UNUSED_LIFETIME`.

        The client is counted for the first `subject` that logs in with it. Of more than `clients_per_subject` the ones
        used longest ago are deleted, so that nobody can fill the store by logging in.
        """
        ...

    async def check(self) -> int | None:
        """Return if the store can be read and written: the number of clients, or None if it is not known."""
        ...

    async def aclose(self) -> None:
        """Close the connections. The store can be used again afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A registered client."""

    client: Client
    last_used_at: int | None
    """When it last got a token, in seconds since the epoch, to the day; None if it never did."""


@dataclass(frozen=True, slots=True)
class ClientPage:
    """A page of the clients that a search found, and the number of all of them."""

    clients: list[StoredClient]
    total: int


class ClientDirectory(Protocol):
    """The operator's view of a store; looking at a client does not count as use. Raises as `ClientStore` does."""

    async def search(self, name: str, *, offset: int, limit: int) -> ClientPage:
        """The clients with `name` in their `client_name`, the ones used or registered last first; all for ''."""
        ...

    async def look_up(self, client_id: str) -> StoredClient | None:
        """The client, or None when no such client is registered (any more)."""
        ...

    async def remove(self, client_id: str) -> bool:
        """Delete a client; False if there was none."""
        ...


class RegisteredClients(ClientStore, ClientDirectory, Protocol):
    """A store of registered clients, for requests and for the operator."""


def new_client_id() -> str:
    """128 random bits, so that client_ids neither collide nor can be guessed; in hex, as `-x` reads as an option."""
    return secrets.token_hex(16)


def new_client_secret() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """The stored form of a secret. It has 256 random bits, so one SHA-256 is slow enough."""
    return hashlib.sha256(secret.encode()).digest()
