"""What is known of the identity provider: where its endpoints are and what it can do (RFC 8414 §2)."""

from dataclasses import dataclass
from typing import Protocol

from seed_oauth.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """The identity provider's metadata, as far as the door needs it."""

    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    revocation_endpoint: str | None = None
    jwks_uri: str | None = None
    introspection_endpoint: str | None = None
    sends_issuer: bool = False
    """Whether its authorization responses carry `iss` (RFC 9207)."""
    code_challenge_methods: tuple[str, ...] = ()
    """The PKCE methods that it says it supports (RFC 8414 §2)."""


class MetadataSource(Protocol):
    """Where the metadata comes from."""

    async def get(self) -> ProviderMetadata:
        """The metadata as it is known now.

        Raises:
            IdentityProviderError: it is not known yet, and could not be read.
        """
        ...


class ConfiguredMetadata:
    """A `MetadataSource` that says what the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._metadata = ProviderMetadata(
            issuer=settings.idp_issuer,
            authorization_endpoint=settings.idp_authorization_url,
            token_endpoint=settings.idp_token_url,
            revocation_endpoint=settings.idp_revocation_url,
            jwks_uri=settings.idp_jwks_url,
            introspection_endpoint=settings.idp_introspection_url,
        )

    async def get(self) -> ProviderMetadata:
        """The metadata, which never changes."""
        return self._metadata
