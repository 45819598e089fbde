"""What is stored of a grant when its code is redeemed, and whether it has been revoked since the login."""

from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop

from seed_oauth.clients import Client
from seed_oauth.clients.family import family_of
from seed_oauth.clients.published import requesting_address
from seed_oauth.envelopes.access_token import LONGEST_LIFETIME
from seed_oauth.flows import TokenMembers
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.grants import GrantStore, StoredGrant
from seed_oauth.flows.held_responses import HeldResponse
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Issued, hashed
from seed_oauth.flows.transaction import Grant
from seed_oauth.outcomes import TokenOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError

LONGEST_NAME = 100
"""Characters that are stored of the name of a client."""

_REVOKED = "access was revoked: start a new authorization"


class IssuedGrants:
    """Stores grants, and refuses those that the operator or the identity provider has revoked."""

    def __init__(
        self,
        grants: GrantStore,
        revocations: Revocations,
        revocation: GrantRevocation,
        now: Callable[[], float],
        *,
        lifetime: float,
    ) -> None:
        """`now` counts seconds since the epoch; `lifetime` is how many seconds a refresh token lasts unused."""
        self._grants = grants
        self._revocations = revocations
        self._revocation = revocation
        self._now = now
        self._lifetime = lifetime

    async def store(self, held: HeldResponse, members: TokenMembers, client: Client) -> None:
        """Store the grant of the token response that the client is about to get.

        Raises:
            OAuthError: STORE_FAILED or GRANT_REVOKED of `TokenOutcome`.
        """
        grant, name = held.grant, client.metadata.get("client_name")
        stored = StoredGrant(
            grant_id=grant.grant_id,
            client_id=grant.client_id,
            client_name=name[:LONGEST_NAME] if isinstance(name, str) else None,
            client_family=family_of(client).value,
            subject_hash=None if grant.subject is None else hashed(grant.subject),
            session_hash=None if held.session_id is None else hashed(held.session_id),
            scope=grant.scope,
            resource=grant.resource,
            issued_at=grant.login_at,
            used_at=grant.login_at,
            address=held.address,
            token_hash=held.token_hash,
        )
        try:
            await self._grants.add(stored, expires_at=self._now() + self._lasts(members))
            # Whoever revokes does so first and looks for grants afterwards: one of the two sees the other.
            if await self._has_ended(grant, held.session_id):
                await self._revocation.end(grant.grant_id)
                raise OAuthError(TokenOutcome.GRANT_REVOKED, _REVOKED)
        except StoreError as failure:
            # Nobody has access who cannot be listed.
            raise OAuthError(
                TokenOutcome.STORE_FAILED, "the grant cannot be stored at the moment: start a new authorization"
            ) from failure

    async def check(self, grant: Grant) -> None:
        """Return if neither its user nor its client, nor everything of its time, is revoked.

        Raises:
            OAuthError: GRANT_REVOKED of `TokenOutcome`.
        """
        if await self._has_ended(grant):
            raise OAuthError(TokenOutcome.GRANT_REVOKED, _REVOKED)

    async def _has_ended(self, grant: Grant, session_id: str | None = None) -> bool:
        await self._revocations.read()
        # Not by its own ID: the store knows whether it is revoked itself.
        issued = Issued(grant.client_id, grant.subject, grant.login_at, session_id)
        return await self._revocations.cover(issued)

    def _lasts(self, members: TokenMembers) -> float:
        """For how many seconds the client has access unless it refreshes."""
        if "refresh_token" in members:
            return self._lifetime
        expires_in = members.get("expires_in")
        return expires_in if isinstance(expires_in, int) else LONGEST_LIFETIME


def login_address() -> str | None:
    """The address of the browser that sends this request; of IPv6 the network, because the rest changes daily."""
    packed = requesting_address.get()
    if not packed:
        return None
    if len(packed) == 4:  # noqa: PLR2004 - IPv4
        return inet_ntop(AF_INET, packed)
    return f"{inet_ntop(AF_INET6, packed.ljust(16, bytes(1)))}/{8 * len(packed)}"
