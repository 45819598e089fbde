"""The check in front of an MCP server: only requests with a good access token for this resource get through."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """What an access token says that was found good for the protected resource."""

    subject: str | None
    """Who has logged in, as the identity provider calls them; None when the token does not tell."""
    client_id: str | None
    """Who the token was issued to: the MCP client where the token is ours, else the identity provider's client."""
    scopes: frozenset[str]
    expires_at: float
    """Seconds since the epoch."""
    issuer: str
    """Who says so: the identity provider, or this door."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """Everything that the identity provider says; empty for a token of ours."""
    idp_token: str | None = field(default=None, repr=False)
    """The identity provider's access token inside one of ours, for the MCP server's own use. Never to be passed on."""
