"""`/oauth/backchannel-logout`: the identity provider says that a user has logged out."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.clients.assertion import UsedAssertions
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.grants import Selection
from seed_oauth.flows.revoked import hashed
from seed_oauth.http import log_fields
from seed_oauth.http.answer import NO_STORE, Answer
from seed_oauth.http.parameters import read_form
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.identity_provider.logout_token import CLOCK_SKEW, LIFETIME, Logout, LogoutTokens
from seed_oauth.outcomes import LogoutOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError


class BackchannelLogoutEndpoint:
    """The back-channel logout URI (OpenID Connect Back-Channel Logout 1.0 §2.5).

    A request that fails is answered 400, whoever has to act (§2.8).
    """

    def __init__(
        self,
        tokens: LogoutTokens,
        used: UsedAssertions,
        grants: GrantRevocation,
        now: Callable[[], float],
        pseudonym: Callable[[str | None], str | None],
    ) -> None:
        """`now` counts seconds since the epoch; `pseudonym` is what logs call a user."""
        self._tokens = tokens
        self._used = used
        self._grants = grants
        self._now = now
        self._pseudonym = pseudonym

    async def __call__(self, request: Request) -> Answer:
        """Revoke the grants of the user, or of the session, that has ended.

        Raises:
            OAuthError: any row of `LogoutOutcome` but the successful one.
        """
        form = await read_form(request)
        if "logout_token" not in form:
            raise OAuthError(LogoutOutcome.MISSING_PARAMETER, "logout_token is missing")
        try:
            logout = await self._tokens.verify(form["logout_token"])
        except IdentityProviderError as failure:
            raise OAuthError(
                LogoutOutcome.IDP_UNAVAILABLE, "the identity provider's keys cannot be read: try again"
            ) from failure
        log_fields.note(subject=self._pseudonym(logout.subject))
        log_fields.fact(subject=logout.subject)
        try:
            await self._check_unused(logout)
            ended = await self._end(logout)
        except StoreError as failure:
            raise OAuthError(LogoutOutcome.STORE_FAILED, "the grants could not be revoked: try again") from failure
        log_fields.note(grants=str(ended))
        return Answer(LogoutOutcome.LOGGED_OUT, Response(status_code=200, headers=NO_STORE))

    async def _check_unused(self, logout: Logout) -> None:
        now = self._now()
        # No client_id has a space.
        first = await self._used.use(
            f"logout {logout.issuer}", logout.jti, expires_at=now + LIFETIME + CLOCK_SKEW, now=now
        )
        if not first:
            raise OAuthError(LogoutOutcome.REPLAYED, "the logout_token was used before")

    async def _end(self, logout: Logout) -> int:
        subject_hash = None if logout.subject is None else hashed(logout.subject)
        if logout.session_id is not None:
            return await self._grants.end_session(hashed(logout.session_id), subject_hash)
        return await self._grants.revoke(Selection(subject_hash=subject_hash))
