"""Each refresh token works once, and a repeated refresh gets the same answer for a while."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from seed_oauth.envelopes.seal import Purpose, Sealer, SealError
from seed_oauth.flows import TokenMembers
from seed_oauth.flows.grants import GRACE, GrantStore, RefreshLease
from seed_oauth.flows.tokens import token_hash
from seed_oauth.flows.transaction import Grant
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import TokenOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError

_LOOK_AGAIN = 0.05  # seconds between two polls for the answer that another request is waiting for
_MARGIN = 1.0  # seconds between the end of an exchange and the moment its answer is stored


class Rotation:
    """Rotates refresh tokens (OAuth 2.1 §4.3.1, RFC 9700 §4.14.2)."""

    def __init__(
        self,
        grants: GrantStore,
        sealer: Sealer,
        now: Callable[[], float],
        *,
        exchange_timeout: float,
        lifetime: float,
        login_lifetime: float,
    ) -> None:
        """`now` counts seconds since the epoch.

        `exchange_timeout` is how many seconds one exchange may take, `lifetime` how many a refresh token lasts unused,
        and `login_lifetime` how many after the login its refresh tokens work.
        """
        self._grants = grants
        self._sealer = sealer
        self._now = now
        self._patience = exchange_timeout + _MARGIN
        self._lifetime = lifetime
        self._login_lifetime = login_lifetime

    def opened(self, refresh_token: str) -> Grant:
        """The grant in a refresh token.

        Raises:
            SealError: it was not sealed here, or has expired.
        """
        return Grant.opened(self._sealer, refresh_token, lifetime=self._lifetime, now=self._now())

    def has_ended(self, grant: Grant) -> bool:
        """Whether its user has to log in again, however recently it was refreshed."""
        return grant.login_at + self._login_lifetime < self._now()

    async def once(self, grant: Grant, exchange: Callable[[], Awaitable[TokenMembers]]) -> TokenMembers:
        """The result of `exchange`, called once for this grant and generation by all requests in all processes.

        Raises:
            OAuthError: the refresh token was used before (REFRESH_TOKEN_REUSED) or its grant was revoked
                (REFRESH_TOKEN_REVOKED), or the store cannot answer.
            Exception: whatever `exchange` raises; then the refresh token may be tried again.
        """
        try:
            lease = await self._lease(grant)
        except StoreError as failure:
            raise OAuthError(
                TokenOutcome.STORE_FAILED, "refresh tokens cannot be looked up at the moment: try again"
            ) from failure
        if isinstance(lease, str):
            return self._answer_given_before(lease)
        try:
            members = await exchange()
        except BaseException:
            # Also when the request is cancelled. If the store is unreachable by now, the lease expires by itself.
            with anyio.CancelScope(shield=True), suppress(StoreError):
                await self._grants.abandon(grant.grant_id, grant.generation)
            raise
        now = self._now()
        # The store sees no token: the answer that it keeps for repeated requests is sealed, too.
        kept = self._sealer.seal(Purpose.REFRESH_ANSWER, members, now)
        # Even if the store is unreachable by now, the client must get its tokens: its old ones are used up.
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await self._grants.finish(grant.grant_id, grant.generation, kept, now=now, token_hash=token_hash(members))
        return members

    def _answer_given_before(self, envelope: str) -> TokenMembers:
        try:
            answer: TokenMembers = self._sealer.open(
                Purpose.REFRESH_ANSWER, envelope, lifetime=2 * GRACE, now=self._now()
            )
        except SealError as failure:
            # While keys are rotated, another replica may seal with a key that this one does not have.
            raise OAuthError(
                TokenOutcome.STORE_FAILED, "another server has already answered this refresh: try again"
            ) from failure
        return answer

    async def _lease(self, grant: Grant) -> RefreshLease | str:
        """YOURS, or the answer that was given before."""
        give_up_at = self._now() + self._patience
        while (now := self._now()) <= give_up_at:
            lease = await self._grants.take_lease(
                grant.grant_id, grant.generation, now=now, until=now + self._patience, expires_at=now + self._lifetime
            )
            if lease is RefreshLease.SPENT:
                raise OAuthError(
                    TokenOutcome.REFRESH_TOKEN_REUSED,
                    "the refresh token was used before, so its grant is revoked: start a new authorization",
                )
            if lease is RefreshLease.REVOKED:
                raise OAuthError(
                    TokenOutcome.REFRESH_TOKEN_REVOKED, "the refresh token was revoked: start a new authorization"
                )
            if lease is not RefreshLease.TAKEN:
                return lease
            await anyio.sleep(_LOOK_AGAIN)
        raise IdentityProviderError(IdentityProviderFailure.TIMEOUT)
