"""The tokens of the development identity provider: signed by a key of its own, which is made when it starts."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

ALGORITHM = "ES256"
ACCESS_TOKEN_LIFETIME = 3600
ID_TOKEN_LIFETIME = 300
"""Lifetimes in seconds."""
SUBJECT = "developer"
"""Everybody who logs in."""


@dataclass(frozen=True, kw_only=True)
class IssuedGrant:
    """What the user lets the client have."""

    scope: str
    resource: str | None
    """The protected resource that the access tokens are for (RFC 8707)."""


class Signer:
    """Issues access tokens (RFC 9068) and ID tokens (OpenID Connect Core §2) to one client."""

    def __init__(self, client_id: str, clock: Callable[[], float]) -> None:
        """`clock` counts seconds since the epoch."""
        self._client_id = client_id
        self._clock = clock
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)

    @property
    def jwks(self) -> Mapping[str, Any]:
        """The public key, for whoever checks a token (RFC 7517 §5)."""
        return KeySet([self._key]).as_dict(private=False)

    def access_token(self, issuer: str, grant: IssuedGrant, scope: str) -> str:
        """A JWT whose audience is the resource; without one it is good at `issuer` alone, as with most providers."""
        claims = {
            "aud": grant.resource or issuer,
            "client_id": self._client_id,
            "jti": secrets.token_urlsafe(16),
            "scope": scope,
        }
        return self._signed("at+jwt", issuer, ACCESS_TOKEN_LIFETIME, claims)

    def id_token(self, issuer: str, nonce: str | None) -> str:
        """A JWT that tells the client who has logged in, in answer to the request with this `nonce`."""
        claims = {"aud": self._client_id} | ({"nonce": nonce} if nonce else {})
        return self._signed("JWT", issuer, ID_TOKEN_LIFETIME, claims)

    def _signed(self, kind: str, issuer: str, lifetime: int, claims: Mapping[str, Any]) -> str:
        now = int(self._clock())
        header = {"alg": ALGORITHM, "kid": self._key.kid, "typ": kind}
        return jwt.encode(
            header, {"iss": issuer, "sub": SUBJECT, "iat": now, "exp": now + lifetime, **claims}, self._key
        )
