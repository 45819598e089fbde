"""The identity provider's metadata: its endpoints and what it supports (RFC 8414 §2)."""

import re
from dataclasses import dataclass
from typing import Protocol

_TENANT = "{tenantid}"  # in Entra ID's issuer, in place of the user's tenant, which is a GUID
_GUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """The members that the door needs."""

    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    revocation_endpoint: str | None = None
    jwks_uri: str | None = None
    introspection_endpoint: str | None = None
    sends_issuer: bool = False
    """Whether its authorization responses contain `iss` (RFC 9207)."""
    code_challenge_methods: tuple[str, ...] = ()
    """The PKCE methods that it lists (RFC 8414 §2)."""

    def is_issuer(self, said: str) -> bool:
        """Whether an `iss` is this identity provider's, byte for byte (RFC 9207 §2.4, RFC 9068 §4).

        Entra ID's issuer for several tenants is a template, and `iss` has the user's tenant in its place:
        https://learn.microsoft.com/entra/identity-platform/access-tokens#multitenant-applications
        """
        if self.issuer is None:
            return False
        before, tenant, after = self.issuer.partition(_TENANT)
        if not tenant:
            return said == self.issuer
        return re.fullmatch(re.escape(before) + _GUID + re.escape(after), said) is not None


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
