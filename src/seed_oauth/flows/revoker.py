"""What ends a grant before its time: its client, a code or refresh token that is used twice, or the access rules."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from seed_oauth.envelopes.seal import ExpiredError, Sealer, SealError
from seed_oauth.flows.access_tokens import AccessTokens
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.presented import note_grant
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.transaction import Grant
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.identity_provider.jwks import UnknownKeyError
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import Outcome, RevocationOutcome, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError

Parameters = Mapping[str, str]
"""Those of a revocation request (RFC 7009 §2.1)."""

_OF_A_REVOKED_GRANT = frozenset({TokenOutcome.REFRESH_TOKEN_REUSED, TokenOutcome.REFRESH_TOKEN_REVOKED})


class Revoker:
    """Revokes tokens: here first, so that access ends also where the identity provider is down, and then there."""

    def __init__(
        self,
        sealer: Sealer,
        own: AccessTokens,
        rotation: Rotation,
        revocations: Revocations,
        revocation: GrantRevocation,
        *,
        metadata: MetadataSource,
        identity_provider: IdentityProvider,
        now: Callable[[], float],
    ) -> None:
        """`now` counts seconds since the epoch."""
        self._sealer = sealer
        self._own = own
        self._rotation = rotation
        self._revocations = revocations
        self._revocation = revocation
        self._metadata = metadata
        self._identity_provider = identity_provider
        self._now = now
        self._under_way: set[asyncio.Task[None]] = set()

    async def revoke(self, presented: Parameters, client_id: str) -> None:
        """Revoke a token of the client (RFC 7009 §2.1).

        A refresh token ends its grant, our own access token only itself and those that its grant had before.

        Raises:
            OAuthError: STORE_FAILED of `RevocationOutcome`.
            IdentityProviderError: it is revoked here, but the identity provider does not answer as it should.
        """
        try:
            parameters = await self._revoked_here(presented, client_id)
        except StoreError as failure:
            raise OAuthError(RevocationOutcome.STORE_FAILED, "the token could not be revoked: try again") from failure
        if parameters is not None:
            await self._revoke_at_idp(parameters)

    async def after(self, refusal: Outcome, grant: Grant) -> None:
        """End access where a refusal shows that the grant is revoked, or that its user may not come in any more.

        A reuse also revokes the identity provider's refresh token. The client does not wait for that.
        """
        if refusal is TokenOutcome.NOT_ALLOWED:
            with suppress(StoreError):  # the next refresh is refused as this one is
                await self.end(grant.grant_id)
        if refusal in _OF_A_REVOKED_GRANT:
            with suppress(StoreError):  # the next refusal tries again
                await self._revocations.revoke(Revoked.GRANT, grant.grant_id)
        if refusal is TokenOutcome.REFRESH_TOKEN_REUSED:
            revoking = asyncio.create_task(self._try_to_revoke_at_idp(_of(grant)))
            self._under_way.add(revoking)
            revoking.add_done_callback(self._under_way.discard)

    async def end(self, grant_id: str) -> None:
        """End a grant here: neither its refresh tokens nor its access tokens work any more.

        Raises:
            StoreError: the store cannot answer.
        """
        await self._revocation.end(grant_id)

    async def aclose(self) -> None:
        """Give up what is under way."""
        for revoking in self._under_way:
            revoking.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _revoked_here(self, presented: Parameters, client_id: str) -> Parameters | None:
        """The revocation request to the identity provider; None when there is nothing left for it to revoke."""
        try:
            grant = self._rotation.opened(presented["token"])
        except ExpiredError:
            return None  # as good as revoked
        except SealError:
            return await self._access_token_revoked_here(presented, client_id)
        if grant.client_id != client_id:
            return None
        note_grant(grant, self._sealer)
        await self.end(grant.grant_id)
        return _of(grant)

    async def _access_token_revoked_here(self, presented: Parameters, client_id: str) -> Parameters | None:
        try:
            token = await self._own.opened(presented["token"], self._now())
        except (SealError, UnknownKeyError):
            return None  # expired, or not good anyway
        if token is None:
            return presented  # it may be the identity provider's own
        if token.client_id != client_id:
            return None
        await self._revocations.revoke(Revoked.GRANT, token.grant_id, before=token.issued_at)
        idp_token = token.idp_access_token
        return None if idp_token is None else {"token": idp_token, "token_type_hint": "access_token"}

    async def _revoke_at_idp(self, parameters: Parameters) -> None:
        metadata = await self._metadata.get()
        if metadata.revocation_endpoint is not None:
            await self._identity_provider.revoke(metadata.revocation_endpoint, parameters)

    async def _try_to_revoke_at_idp(self, parameters: Parameters) -> None:
        with suppress(IdentityProviderError):
            await self._revoke_at_idp(parameters)


def _of(grant: Grant) -> Parameters:
    return {"token": grant.idp_refresh_token, "token_type_hint": "refresh_token"}
