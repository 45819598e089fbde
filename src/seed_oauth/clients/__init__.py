"""Registered clients and where they are kept."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from seed_oauth.database import StoreError

__all__ = [
    "Client",
    "ClientStore",
    "StoreError",
    "TokenEndpointAuthMethod",
    "hash_secret",
    "new_client_id",
    "new_client_secret",
]

TokenEndpointAuthMethod = Literal["none", "client_secret_basic", "client_secret_post"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client (RFC 7591 §2), as far as later requests need it."""

    client_id: str
    issued_at: int
    """Seconds since the epoch (`client_id_issued_at`)."""
    redirect_uris: tuple[str, ...]
    token_endpoint_auth_method: TokenEndpointAuthMethod = "none"  # noqa: S105 - a method's name
    secret_hash: bytes | None = None
    trusted: bool = False
    """Whether the operator vouches for it, so that its users need not be asked for consent."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """The rest of what was registered, for people to read: `client_name`, `client_uri` …"""

    def has_secret(self, secret: str) -> bool:
        """Whether `secret` is this client's, compared in constant time."""
        return self.secret_hash is not None and hmac.compare_digest(hash_secret(secret), self.secret_hash)


class ClientStore(Protocol):
    """Where registered clients are kept. Every method raises `StoreError` when it cannot answer."""

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when no such client is registered."""
        ...

    async def add(self, client: Client) -> None:
        """Keep a new client; when this returns, other processes see it too."""
        ...

    async def check(self) -> None:
        """Return when the store can answer."""
        ...

    async def aclose(self) -> None:
        """Let go of connections. The store can be used again afterwards."""
        ...


def new_client_id() -> str:
    """128 random bits: client_ids cannot be guessed or collide."""
    return secrets.token_urlsafe(16)


def new_client_secret() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """What is stored of a secret. It has 256 random bits, so one SHA-256 is as slow as it needs to be."""
    return hashlib.sha256(secret.encode()).digest()
