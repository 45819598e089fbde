"""Our own access tokens in both forms: sealed for this server alone, or JWTs that others can check (RFC 9068)."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from secrets import token_urlsafe
from typing import Any

from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import ExpiredError, Sealer, SealError
from seed_oauth.identity_provider.jwks import UnknownKeyError
from seed_oauth.protocol.jwk import BadSignatureError, key_id_of, unverified
from seed_oauth.protocol.signing_keys import SigningKeys
from seed_oauth.settings import Settings

Verify = Callable[[str, str | None], Awaitable[Mapping[str, object]]]
"""The claims of our own JWT, by the name of the key that it is signed with.

Raises:
    BadSignatureError: it is not signed with that key.
    UnknownKeyError: there is no such key.
    IdentityProviderError: the keys are elsewhere, and cannot be read.
"""

_TYPE = "at+jwt"
_ACCEPTED_TYPES = (_TYPE, f"application/{_TYPE}")

_PROFILE = ("email", "name", "groups", "tenant")


class AccessTokens:
    """Writes and reads our own access tokens."""

    def __init__(
        self,
        issuer: str,
        sealer: Sealer,
        *,
        verify: Verify | None = None,
        keys: SigningKeys | None = None,
        signs: bool = False,
        told: Collection[str] = (),
    ) -> None:
        """JWTs are verified with `keys`, or by `verify` where the keys are elsewhere; with neither there are none.

        If it `signs`, new tokens are JWTs, which also tell those parts of the user's profile that are in `told`.
        """
        self.keys = keys
        self._issuer = issuer
        self._sealer = sealer
        self._verify = verify if keys is None else partial(_verify, keys)
        self._signing = keys if signs else None
        self._told = told

    def issued(self, token: AccessToken, now: float) -> str:
        """The token as a client gets it; `now` in seconds since the epoch."""
        if self._signing is None:
            return token.sealed(self._sealer, now)
        return self._signing.sign(_TYPE, self._claims(token))

    async def opened(self, token: str, now: float) -> AccessToken | None:
        """What our own token says, or None for any other; the caller has to check its expiry and its resource.

        Raises:
            ExpiredError, SealError: it names us as its issuer, and is not good.
            UnknownKeyError, IdentityProviderError: see `Verify`.
        """
        if token.count(".") == 2:  # noqa: PLR2004 - a signed JWT (RFC 7515 §3.1); an envelope has none
            return await self._opened_jwt(token)
        try:
            return AccessToken.opened(self._sealer, token, now)
        except ExpiredError:
            raise
        except SealError:
            return None

    async def _opened_jwt(self, token: str) -> AccessToken | None:
        if self._verify is None:
            return None
        try:
            header, said = unverified(token)
        except BadSignatureError:
            return None
        if said.get("iss") != self._issuer:
            return None
        # RFC 9068 §4: the type, or another kind of JWT with this key would be an access token. RFC 7515 §4.1.11: crit.
        if str(header.get("typ")).lower() not in _ACCEPTED_TYPES or "crit" in header:
            raise SealError("the JWT is not an access token")
        try:
            return _read(await self._verify(token, key_id_of(header)))
        except (BadSignatureError, KeyError, TypeError) as bad:
            raise SealError("the JWT is not an access token of this server") from bad

    def _claims(self, token: AccessToken) -> Mapping[str, object]:
        """RFC 9068 §2.2, and by what a token is revoked here; no `sub` where the identity provider does not say it."""
        claims: dict[str, object] = {
            "iss": self._issuer,
            "sub": token.subject,
            "aud": token.resource,
            "exp": token.expires_at,
            "iat": int(token.issued_at),
            "jti": token_urlsafe(16),
            "client_id": token.client_id,
            "scope": token.scope,
            "grant_id": token.grant_id,
            # Some libraries take no fraction in iat, and a second is too coarse to revoke what came before a login.
            "issued_at": token.issued_at,
        }
        claims |= {name: getattr(token, name) for name in _PROFILE if name in self._told}
        return {name: claim for name, claim in claims.items() if claim}


def open_access_tokens(settings: Settings, sealer: Sealer) -> AccessTokens:
    """Those that the settings describe; JWTs are accepted while there are keys, whatever is issued by now."""
    pems = [key.get_secret_value() for key in settings.signing_keys]
    return AccessTokens(
        settings.issuer,
        sealer,
        keys=SigningKeys(pems) if pems else None,
        signs=settings.access_tokens == "jwt",
        told=settings.access_token_claims,
    )


async def _verify(keys: SigningKeys, token: str, key_id: str | None) -> Mapping[str, object]:
    claims = keys.verify(token, key_id)
    if claims is None:
        raise UnknownKeyError
    return claims


def _read(claims: Mapping[str, Any]) -> AccessToken:
    if not isinstance(claims["aud"], str):
        raise TypeError("our own token is for one resource")
    return AccessToken(
        client_id=claims["client_id"],
        resource=claims["aud"],
        scope=claims.get("scope", ""),
        expires_at=claims["exp"],
        subject=claims.get("sub"),
        idp_access_token=None,
        grant_id=claims["grant_id"],
        issued_at=claims["issued_at"],
        email=claims.get("email"),
        name=claims.get("name"),
        groups=tuple(claims.get("groups", ())),
        tenant=claims.get("tenant"),
    )
