"""The check in front of an MCP server: only requests with a valid access token for this resource get through."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from seed_oauth.outcomes import ResourceOutcome


@dataclass(eq=False)
class AccessTokenError(Exception):
    """A request has no access token, or one that is refused or cannot be checked.

    `outcome` says why, and `description` says what the client can do. The guard makes the response of it.
    """

    outcome: ResourceOutcome
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """What a valid access token for the protected resource says."""

    subject: str | None
    """The user, by the identity provider's name for them; None when the token does not say."""
    client_id: str | None
    """Who the token was issued to: the MCP client where the token is ours, else the identity provider's client."""
    scopes: frozenset[str]
    expires_at: float
    """Seconds since the epoch."""
    issuer: str
    """The identity provider, or this server."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """All claims of the identity provider's token; empty for our own token."""
    idp_token: str | None = field(default=None, repr=False)
    """The identity provider's access token inside our own, for the MCP server's own use only."""
    grant_id: str | None = None
    """The grant behind our own token; None for the identity provider's."""
    issued_at: float = 0.0
    """When the token was issued, in seconds since the epoch; 0 when the identity provider does not say."""
    token_id: str | None = None
    """The ID of the identity provider's token (`jti`)."""
    session_id: str | None = None
    """The user's session at the identity provider (`sid`), if its token says it."""
    email: str | None = None
    """The user's e-mail address, if the identity provider has verified it."""
    name: str | None = None
    """The user's name; None when the token does not say."""
    groups: tuple[str, ...] = ()
    """The user's groups, all of them; empty, too, if the token does not say."""
    tenant: str | None = None
    """The user's tenant; None when the token does not say."""
