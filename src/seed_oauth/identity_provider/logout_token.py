"""Logout tokens: the identity provider says that a user has logged out (OpenID Connect Back-Channel Logout 1.0)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from seed_oauth.identity_provider.jwks import IssuerKeys, UnknownKeyError
from seed_oauth.identity_provider.metadata import MetadataSource, ProviderMetadata
from seed_oauth.outcomes import LogoutOutcome
from seed_oauth.outcomes.errors import NOT_CONFIGURED, OAuthError
from seed_oauth.protocol.issuer import is_issuer
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS, BadSignatureError, audiences_of, key_id_of, unverified

LIFETIME = 600
"""Seconds for which a logout token is accepted, and for which its use must be stored: two minutes are recommended."""

CLOCK_SKEW = 60
"""Seconds that the identity provider's clock may be off."""

_EVENT = "http://schemas.openid.net/event/backchannel-logout"

_TYPES = ("logout+jwt", "application/logout+jwt", "jwt", None)

Claims = Mapping[str, object]


class Logout(NamedTuple):
    """Who has logged out: a user, a session of theirs, or a session of somebody."""

    subject: str | None
    session_id: str | None
    issuer: str
    jti: str
    """The ID of the logout token, which may be used once."""


class LogoutTokens:
    """Verifies logout tokens."""

    def __init__(self, metadata: MetadataSource, keys: IssuerKeys, client_id: str, now: Callable[[], float]) -> None:
        """`client_id` is ours at the identity provider; `now` counts seconds since the epoch."""
        self._metadata = metadata
        self._keys = keys
        self._client_id = client_id
        self._now = now

    async def verify(self, token: str) -> Logout:
        """What the logout token says (OpenID Connect Back-Channel Logout §2.6).

        Raises:
            OAuthError: a row of `LogoutOutcome`.
            IdentityProviderError: its keys are not known, and could not be fetched.
        """
        try:
            header, said = unverified(token)
        except BadSignatureError:
            raise _bad("is not a signed JWT") from None
        kind = header.get("typ")
        kind = kind.lower() if isinstance(kind, str) else kind
        # RFC 7515 §4.1.11: no extension is understood here, so any critical one is refused.
        if kind not in _TYPES or "crit" in header or header.get("alg") not in SIGNING_ALGORITHMS:
            raise _bad("is not a logout token")
        metadata = await self._metadata.get()
        if metadata.issuer is None or metadata.jwks_uri is None:
            raise OAuthError(LogoutOutcome.NOT_CONFIGURED, NOT_CONFIGURED)
        # Before any key is fetched, so that tokens from elsewhere cause no request to the identity provider.
        self._check_parties(said, metadata)
        try:
            claims = await self._keys.verify(metadata.jwks_uri, token, key_id_of(header))
        except (BadSignatureError, UnknownKeyError):
            raise _bad("is not signed with a key of the identity provider") from None
        self._check_times(claims)
        return _logout(claims)

    def _check_parties(self, said: Claims, metadata: ProviderMetadata) -> None:
        if not is_issuer(said.get("iss"), metadata.issuer or "", said.get("tid")):
            raise OAuthError(LogoutOutcome.WRONG_ISSUER, "the logout_token has another issuer")
        if self._client_id not in audiences_of(said):
            raise OAuthError(LogoutOutcome.WRONG_AUDIENCE, "the logout_token is for another client")

    def _check_times(self, claims: Claims) -> None:
        now, issued_at = self._now(), claims.get("iat")
        # Drafts of the specification had no `exp`, and some identity providers still send none.
        expires_at = claims.get("exp", issued_at)
        if not isinstance(issued_at, int | float) or not isinstance(expires_at, int | float):
            raise _bad("must have iat and exp")
        if not issued_at - CLOCK_SKEW <= now <= min(expires_at, issued_at + LIFETIME) + CLOCK_SKEW:
            raise OAuthError(LogoutOutcome.EXPIRED, "the logout_token has expired, or a clock is wrong")


def _logout(claims: Claims) -> Logout:
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_EVENT), dict):
        raise _bad("has no back-channel logout event")
    if "nonce" in claims:  # it is an ID token
        raise _bad("must not have a nonce")
    subject, session_id, jti = (_text(claims.get(name)) for name in ("sub", "sid", "jti"))
    if jti is None:
        raise _bad("must have a jti")
    if subject is None and session_id is None:
        raise _bad("must have sub or sid")
    return Logout(subject, session_id, str(claims["iss"]), jti)


def _text(claim: object) -> str | None:
    return claim if isinstance(claim, str) and claim else None


def _bad(why: str) -> OAuthError:
    return OAuthError(LogoutOutcome.BAD_LOGOUT_TOKEN, f"the logout_token {why}")
