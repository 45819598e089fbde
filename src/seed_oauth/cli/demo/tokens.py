"""The tokens of the development identity provider, signed with a key that is generated at startup."""

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
"""`sub` of every user."""


@dataclass(frozen=True, kw_only=True)
class IssuedGrant:
    """The access that a client was granted."""

    scope: str
    resource: str | None
    """The protected resource that the access tokens are for (RFC 8707)."""


class Signer:
    """Issues access tokens (RFC 9068) and ID tokens (OpenID Connect Core §2) to one client."""

    def __init__(self, client_id: str, clock: Callable[[], float]) -> None:
        """`clock` returns seconds since the epoch."""
        self._client_id = client_id
        self._clock = clock
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)

    @property
    def jwks(self) -> Mapping[str, Any]:
        """The JWK Set with the public key (RFC 7517 §5)."""
        return KeySet([self._key]).as_dict(private=False)

    def access_token(self, issuer: str, grant: IssuedGrant, scope: str) -> str:
        """A JWT whose audience is the resource or, without one, the issuer."""
        claims = {
            "aud": grant.resource or issuer,
            "client_id": self._client_id,
            "jti": secrets.token_urlsafe(16),
            "scope": scope,
        }
        return self._signed("at+jwt", issuer, ACCESS_TOKEN_LIFETIME, claims)

    def id_token(self, issuer: str, nonce: str | None) -> str:
        """An ID token for the client, in response to the request with this `nonce`."""
        claims = {"aud": self._client_id} | ({"nonce": nonce} if nonce else {})
        return self._signed("JWT", issuer, ID_TOKEN_LIFETIME, claims)

    def _signed(self, kind: str, issuer: str, lifetime: int, claims: Mapping[str, Any]) -> str:
        now = int(self._clock())
        header = {"alg": ALGORITHM, "kid": self._key.kid, "typ": kind}
        return jwt.encode(
            header, {"iss": issuer, "sub": SUBJECT, "iat": now, "exp": now + lifetime, **claims}, self._key
        )
