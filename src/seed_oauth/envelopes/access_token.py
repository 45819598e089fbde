"""Our own access tokens, for identity providers that issue none for the MCP server.

Each is a sealed envelope, which only servers with the same secret keys can open. It names the resource that it is
for, and carries the identity provider's access token, for the MCP server's own use.
"""

from dataclasses import dataclass
from typing import Self

from seed_oauth.envelopes.seal import Purpose, Sealer

LONGEST_LIFETIME = 86_400
"""Seconds; each token also carries its own expiry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """The content of our own access token."""

    client_id: str
    resource: str
    """The protected resource that it is for (RFC 8707), as configured."""
    scope: str
    """Scope tokens, separated by spaces; empty when there are none."""
    expires_at: int
    """Seconds since the epoch."""
    subject: str | None
    """The user, by the identity provider's name for them; None when it did not say."""
    idp_access_token: str | None
    """The identity provider's own access token; None in a JWT, which others can read."""
    grant_id: str
    """The grant that it was issued for, by which it can be revoked."""
    issued_at: float
    """Seconds since the epoch."""
    email: str | None = None
    """The user's verified e-mail address, if it is known; the same for what follows."""
    name: str | None = None
    groups: tuple[str, ...] = ()
    tenant: str | None = None

    def sealed(self, sealer: Sealer, now: float) -> str:
        """The token as a client gets it."""
        content = [
            self.client_id, self.resource, self.scope, self.expires_at, self.subject, self.idp_access_token,
            self.grant_id, self.issued_at, self.email, self.name, self.groups, self.tenant,
        ]  # fmt: skip
        return sealer.seal(Purpose.ACCESS_TOKEN, content, now)

    @classmethod
    def opened(cls, sealer: Sealer, token: str, now: float) -> Self:
        """The token that a client presents; the caller has to check `expires_at`.

        Raises:
            SealError: it was not sealed here.
        """
        content = sealer.open(Purpose.ACCESS_TOKEN, token, lifetime=LONGEST_LIFETIME, now=now)
        client_id, resource, scope, expires_at, subject, idp_access_token, grant_id, issued_at, *user = content
        # A token of an earlier version says nothing of the user.
        email, name, groups, tenant = user or (None, None, (), None)
        return cls(
            client_id=client_id,
            resource=resource,
            scope=scope,
            expires_at=expires_at,
            subject=subject,
            idp_access_token=idp_access_token,
            grant_id=grant_id,
            issued_at=issued_at,
            email=email,
            name=name,
            groups=tuple(groups),
            tenant=tenant,
        )
