"""Registered clients and where they are kept."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from seed_oauth.errors import StoreError

__all__ = [
    "BadClientDocumentError",
    "Client",
    "ClientDirectory",
    "ClientDocumentUnavailableError",
    "ClientPage",
    "ClientStore",
    "QuotaExhaustedError",
    "RegisteredClients",
    "StoredClient",
    "TokenEndpointAuthMethod",
    "hash_secret",
    "new_client_id",
    "new_client_secret",
]

TokenEndpointAuthMethod = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]


_DAY = 86_400

UNUSED_LIFETIME = _DAY
"""Seconds after which a client that never got a token is forgotten."""

PROTECTED = 10
"""Seconds for which a new client keeps its place though no more clients may be kept.

A flood that fills the quota faster than this lets nobody new in; with more seconds a slower one could do that. One that
fills it within the time that people take to log in puts out who has just registered."""

QUOTA = 100_000
"""Registered clients that are kept at most, where the settings say nothing else."""


def forgotten_since(now: float, client_days: float) -> tuple[int, int]:
    """The registration before which a client that never got a token is forgotten, and the last use of one that did.

    The last use is known to a day, so a client may live up to a day longer than `client_days`, and never shorter.
    """
    return int(now - UNUSED_LIFETIME), int(now - (client_days + 1) * _DAY)


class QuotaExhaustedError(Exception):
    """As many clients are kept as may be, and each of them is used or was registered just now."""


class BadClientDocumentError(Exception):
    """What a client publishes of itself breaks a rule; the message says which, and repeats nothing of it."""


class ClientDocumentUnavailableError(StoreError):
    """What a client publishes of itself cannot be had now; later it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client (RFC 7591 §2), as far as later requests need it."""

    client_id: str
    issued_at: int
    """Seconds since the epoch (`client_id_issued_at`); 0 for a client that did not register here."""
    redirect_uris: tuple[str, ...]
    token_endpoint_auth_method: TokenEndpointAuthMethod = "none"  # noqa: S105 - a method's name
    secret_hash: bytes | None = None
    trusted: bool = False
    """Whether the operator vouches for it, so that its users need not be asked for consent."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """The rest of what was registered, for people to read: `client_name`, `client_uri` …"""
    further_auth_methods: tuple[TokenEndpointAuthMethod, ...] = ()
    """What it may authenticate by as well (`token_endpoint_auth_methods_supported` in its document)."""
    jwks: Mapping[str, object] | None = None
    """The keys of private_key_jwt; None when it has none, or publishes them at `jwks_uri`."""
    jwks_uri: str | None = None

    def authenticates_by(self, method: TokenEndpointAuthMethod) -> bool:
        """Whether `method` is one of those that this client has registered."""
        return method in {self.token_endpoint_auth_method, *self.further_auth_methods}

    def has_secret(self, secret: str) -> bool:
        """Whether `secret` is this client's, compared in constant time."""
        return self.secret_hash is not None and hmac.compare_digest(hash_secret(secret), self.secret_hash)


class ClientStore(Protocol):
    """Where registered clients are kept. Every method raises `StoreError` when it cannot answer."""

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered (any more).

        Raises:
            BadClientDocumentError: its client_id is the URL of a document, which breaks a rule.
            ClientDocumentUnavailableError: that document cannot be had now.
        """
        ...

    async def add(self, client: Client) -> None:
        """Keep a new client; when this returns, other processes see it too.

        Where as many are kept as may be, it takes the place of the one that registered longest ago of those that
        never got a token, unless that was within the last `PROTECTED` seconds.

        Raises:
            QuotaExhaustedError: there is no such client.
        """
        ...

    async def mark_used(self, client_id: str) -> None:
        """Note that the client got a token now: one that never did is forgotten after `UNUSED_LIFETIME`."""
        ...

    async def check(self) -> None:
        """Return when the store can answer and be written to."""
        ...

    async def aclose(self) -> None:
        """Let go of connections. The store can be used again afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A registered client."""

    client: Client
    last_used_at: int | None
    """When it last got a token, in seconds since the epoch, to a day; None if it never did."""


@dataclass(frozen=True, slots=True)
class ClientPage:
    """Some of the clients that were looked for, and how many there are in all."""

    clients: list[StoredClient]
    total: int


class ClientDirectory(Protocol):
    """What the operator does with a store; to look at a client is not to use it. Raises as `ClientStore` does."""

    async def search(self, name: str, *, offset: int, limit: int) -> ClientPage:
        """The clients that have `name` in their `client_name`, those used or registered last first; all for ''."""
        ...

    async def look_up(self, client_id: str) -> StoredClient | None:
        """The client, or None when no such client is registered (any more)."""
        ...

    async def remove(self, client_id: str) -> bool:
        """Forget a client; False when there was none."""
        ...


class RegisteredClients(ClientStore, ClientDirectory, Protocol):
    """Where clients are kept that register themselves, for requests and for the operator."""


def new_client_id() -> str:
    """128 random bits: client_ids cannot be guessed or collide."""
    return secrets.token_urlsafe(16)


def new_client_secret() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """What is stored of a secret. It has 256 random bits, so one SHA-256 is as slow as it needs to be."""
    return hashlib.sha256(secret.encode()).digest()
