"""The identity provider's metadata: its endpoints and what it supports (RFC 8414 §2)."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """The members that the door needs."""

    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    revocation_endpoint: str | None = None
    jwks_uri: str | None = None
    introspection_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    sends_issuer: bool = False
    """Whether its authorization responses contain `iss` (RFC 9207)."""
    code_challenge_methods: tuple[str, ...] = ()
    """The PKCE methods that it lists (RFC 8414 §2)."""
    default_scopes: tuple[str, ...] = ()
    """What a login asks for where the settings do not say: `openid` at an OpenID Provider, and `offline_access`, for a
    refresh token, where it is listed."""
    ignored: tuple[str, ...] = ()
    """Optional members that cannot be used, and why."""


class MetadataSource(Protocol):
    """A source of the identity provider's metadata."""

    async def get(self) -> ProviderMetadata:
        """The metadata as it is known now.

        Raises:
            IdentityProviderError: it is not known yet, and could not be read.
        """
        ...


class ConfiguredMetadata:
    """A `MetadataSource` for an identity provider whose endpoints are in the settings."""

    def __init__(self, metadata: ProviderMetadata) -> None:
        self._metadata = metadata

    async def get(self) -> ProviderMetadata:
        """The metadata, which never changes."""
        return self._metadata
