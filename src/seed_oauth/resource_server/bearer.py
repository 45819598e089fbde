"""Is an access token valid for a resource? Ours, the identity provider's JWTs, and opaque ones by introspection."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from time import monotonic, time

from seed_oauth.access.identity import ClaimNames, Claims
from seed_oauth.envelopes.seal import ExpiredError, Sealer, SealError
from seed_oauth.envelopes.trace_context import request_trace
from seed_oauth.flows.access_tokens import AccessTokens
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.transaction import FLOW_ID
from seed_oauth.http import log_fields
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.jwks import IssuerKeys, UnknownKeyError
from seed_oauth.identity_provider.metadata import MetadataSource, ProviderMetadata
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.protocol.jwk import BadSignatureError, key_id_of, unverified
from seed_oauth.protocol.resource import canonical
from seed_oauth.resource_server import AccessTokenError, VerifiedToken
from seed_oauth.resource_server.claims import (
    CLOCK_SKEW,
    bad_token,
    check_audience,
    check_claims,
    check_header,
    check_issuer,
    check_times,
    expired_token,
    token_of,
    unknown_key,
    wrong_audience,
)
from seed_oauth.resource_server.introspection import REMEMBERED_FOR, Introspection
from seed_oauth.resource_server.verified_tokens import VerifiedTokens

_STANDARD = ClaimNames()


class BearerTokens:
    """Verifies access tokens."""

    def __init__(
        self,
        issuer: str,
        sealer: Sealer,
        metadata: MetadataSource,
        identity_provider: IdentityProvider,
        keys: IssuerKeys,
        *,
        own: AccessTokens,
        idp_client_id: str | None = None,
        audiences: Collection[str] = (),
        claim_names: ClaimNames = _STANDARD,
        introspection: bool = True,
        own_scopes: Collection[str] = (),
        revocations: Revocations | None = None,
        now: Callable[[], float] = time,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Verify the tokens that `own` opens, which are `issuer`'s, and those of the identity provider.

        `idp_client_id` is the audience of its ID tokens, `audiences` are those of its access tokens besides the
        resource, `claim_names` are the claims that say who a user is, and `introspection` allows asking about opaque
        ones (RFC 7662). Only `issuer`'s own tokens can have the scopes in `own_scopes`. Without `revocations`, tokens
        are valid until they expire. `now` counts seconds since the epoch; `clock` counts seconds and never goes back.
        """
        self._issuer = issuer
        self._sealer = sealer
        self._own = own
        self._idp_client_id = idp_client_id
        self._audiences = audiences
        self._claim_names = claim_names
        self._introspects = introspection
        self._own_scopes = frozenset(own_scopes)
        self._metadata = metadata
        self._introspection = Introspection(identity_provider, clock)
        self._keys = keys
        self._revocations = revocations
        self._verified = VerifiedTokens()
        self._now = now

    async def verify(self, token: str, resource: str) -> VerifiedToken:
        """What the token says, if it is valid for the protected resource now.

        Raises:
            AccessTokenError: the token is refused, or it cannot be checked now.
        """
        verified = self._verified.find(token, resource, self._now())
        if verified is None:
            verified = await self._verify(token, resource)
        await self._check_revoked(verified, resource)
        return verified

    async def verify_own(self, token: str, resource: str) -> VerifiedToken:
        """The same of a token that was issued here; any other is BAD_TOKEN, and nobody is asked about it."""
        verified = await self._open(token, resource)
        if verified is None:
            raise bad_token()
        await self._check_revoked(verified, resource)
        return verified

    async def _check_revoked(self, verified: VerifiedToken, resource: str) -> None:
        log_fields.note(
            client_id=verified.client_id,
            flow_id=(verified.grant_id or "")[:FLOW_ID],
            subject=self._sealer.pseudonym(verified.subject),
        )
        log_fields.fact(subject=verified.subject, grant_id=verified.grant_id, scopes=verified.scopes, resource=resource)
        if self._revocations is not None and await self._revocations.cover(verified):
            raise AccessTokenError(
                ResourceOutcome.REVOKED_TOKEN, "the access token was revoked: use the refresh token, or log in again"
            )

    async def _verify(self, token: str, resource: str) -> VerifiedToken:
        try:
            if verified := await self._open(token, resource):
                if request_trace.get() is None:  # with tracing, the envelope says which login it belongs to
                    self._verified.add(token, resource, verified, verified.expires_at)
                return verified
            is_jwt = token.count(".") == 2  # noqa: PLR2004 - RFC 7515 §3.1
            return await (self._verify_jwt if is_jwt else self._ask)(token, resource)
        except IdentityProviderError as failure:
            raise _unavailable(failure) from failure

    @contextmanager
    def watching(self, token: VerifiedToken, end: Callable[[], None], *, until_expiry: bool) -> Iterator[None]:
        """Call `end` as soon as a token that was verified is revoked or, with `until_expiry`, expires."""
        revocations = nullcontext() if self._revocations is None else self._revocations.watching(token, end)
        timer = None
        if until_expiry:
            # Of a token that was accepted after it had expired, because clocks differ, as long as it is accepted.
            left = token.expires_at - self._now()
            timer = asyncio.get_running_loop().call_later(left if left > 0 else left + CLOCK_SKEW, end)
        try:
            with revocations:
                yield
        finally:
            if timer is not None:
                timer.cancel()

    async def _open(self, token: str, resource: str) -> VerifiedToken | None:
        """What our own token says; None for any other."""
        now = self._now()
        try:
            opened = await self._own.opened(token, now)
        except ExpiredError:
            raise expired_token() from None
        except SealError:
            raise bad_token() from None
        except UnknownKeyError:
            raise unknown_key() from None
        if opened is None:
            return None
        if canonical(opened.resource) != canonical(resource):
            raise wrong_audience()
        if opened.expires_at <= now:
            raise expired_token()
        return VerifiedToken(
            subject=opened.subject,
            client_id=opened.client_id,
            scopes=frozenset(opened.scope.split()),
            expires_at=opened.expires_at,
            issuer=self._issuer,
            idp_token=opened.idp_access_token,
            grant_id=opened.grant_id,
            issued_at=opened.issued_at,
            email=opened.email,
            name=opened.name,
            groups=opened.groups,
            tenant=opened.tenant,
        )

    async def _verify_jwt(self, token: str, resource: str) -> VerifiedToken:
        try:
            header, said = unverified(token)
        except BadSignatureError:
            raise bad_token() from None
        check_header(header)
        metadata = await self._metadata.get()
        if metadata.jwks_uri is None:
            return await self._ask(token, resource)
        issuer = _issuer_of(metadata)
        # Before any key is fetched, so that tokens from elsewhere cause no request to the identity provider.
        check_issuer(said, issuer)
        try:
            claims = await self._keys.verify(metadata.jwks_uri, token, key_id_of(header))
        except BadSignatureError:
            raise bad_token() from None
        except UnknownKeyError:
            raise unknown_key() from None
        expires_at = check_claims(
            header,
            claims,
            resource=resource,
            audiences=self._audiences,
            client_id=self._idp_client_id,
            now=self._now(),
        )
        verified = self._of_idp(claims, expires_at, issuer)
        # Not until it expires, because the identity provider may withdraw the key.
        self._verified.add(token, resource, verified, min(expires_at, self._now() + REMEMBERED_FOR))
        return verified

    async def _ask(self, token: str, resource: str) -> VerifiedToken:
        metadata = await self._metadata.get()
        if metadata.introspection_endpoint is None or not self._introspects:
            raise bad_token()
        answer = await self._introspection.ask(metadata.introspection_endpoint, token)
        if answer["active"] is not True:
            raise AccessTokenError(
                ResourceOutcome.INACTIVE_TOKEN, "the access token is no longer active: use the refresh token"
            )
        # The answer comes from the issuer itself, and need not name it (RFC 7662 §2.2).
        issuer = metadata.issuer or metadata.introspection_endpoint
        if "iss" in answer:
            check_issuer(answer, _issuer_of(metadata))
        # `exp` is optional, too; without it the answer is valid for as long as it is remembered.
        claims = {"exp": self._now() + REMEMBERED_FOR, **answer}
        check_audience(claims, resource, self._audiences)
        return self._of_idp(claims, check_times(claims, self._now()), issuer)

    def _of_idp(self, claims: Claims, expires_at: float, issuer: str) -> VerifiedToken:
        token = token_of(claims, expires_at, issuer, self._claim_names)
        return replace(token, scopes=token.scopes - self._own_scopes)


def _issuer_of(metadata: ProviderMetadata) -> str:
    if metadata.issuer is None:
        raise AccessTokenError(
            ResourceOutcome.NOT_CONFIGURED,
            "access tokens cannot be checked here yet: the operator has to set SEED_OAUTH_IDP_ISSUER",
        )
    return metadata.issuer


def _unavailable(failure: IdentityProviderError) -> AccessTokenError:
    """Never a 401, on which clients discard valid tokens."""
    if failure.failure is IdentityProviderFailure.REFUSED:
        return AccessTokenError(
            ResourceOutcome.TOKEN_CHECK_REFUSED,
            "the identity provider refused this server: its operator has to check its client credentials there",
        )
    return AccessTokenError(
        ResourceOutcome.TOKEN_CHECK_UNAVAILABLE,
        "the access token cannot be checked at the moment: try again",
        failure.headers,
    )
