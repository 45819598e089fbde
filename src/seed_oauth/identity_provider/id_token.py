"""ID tokens: whether one is for this server, and what it says of its user (OpenID Connect Core §3.1.3.7, §12.2)."""

import hmac
from collections.abc import Callable, Mapping
from hashlib import new
from time import time

from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.jwks import IssuerKeys, UnknownKeyError
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.protocol import base64url
from seed_oauth.protocol.issuer import is_issuer
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS, BadSignatureError, audiences_of, key_id_of, unverified

Claims = Mapping[str, object]

_CLOCK_SKEW = 60  # seconds


class IdTokens:
    """Verifies the ID tokens of an identity provider."""

    def __init__(self, client_id: str, keys: IssuerKeys, now: Callable[[], float] = time) -> None:
        """`client_id` is ours at the identity provider; `now` counts seconds since the epoch."""
        self._client_id = client_id
        self._keys = keys
        self._now = now

    async def verify(self, id_token: str, access_token: str, metadata: ProviderMetadata) -> Claims:
        """The claims of the ID token that came with an access token. The caller knows the nonce.

        Raises:
            IdentityProviderError: BAD_ID_TOKEN, or its keys cannot be fetched.
        """
        try:
            header, claims = unverified(id_token)
        except BadSignatureError:
            raise _bad("is not a JWT") from None
        algorithm = str(header.get("alg"))
        # Before any key is fetched.
        self._check(claims, metadata)
        if not _matches(claims.get("at_hash"), access_token, algorithm):
            raise _bad("belongs to another access token")
        if metadata.jwks_uri is None:
            # It came from the token endpoint by TLS, which is as good (number 6).
            return claims
        if algorithm not in SIGNING_ALGORITHMS or "crit" in header:
            raise _bad("is not signed with a public key: choose RS256 or ES256 for this client")
        try:
            return await self._keys.verify(metadata.jwks_uri, id_token, key_id_of(header))
        except (BadSignatureError, UnknownKeyError):
            raise _bad("is not signed with a key that the identity provider publishes") from None

    def _check(self, claims: Claims, metadata: ProviderMetadata) -> None:
        if metadata.issuer is not None and not is_issuer(claims.get("iss"), metadata.issuer, claims.get("tid")):
            raise _bad("is of another issuer")
        audiences = audiences_of(claims)
        # Of several audiences one is who asked for it (numbers 4 and 5).
        party = claims.get("azp", self._client_id if len(audiences) == 1 else None)
        if self._client_id not in audiences or party != self._client_id:
            raise _bad("is for another client")
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int | float) or expires_at <= self._now() - _CLOCK_SKEW:
            raise _bad("has expired, or a clock is wrong")


def _matches(at_hash: object, access_token: str, algorithm: str) -> bool:
    """Whether the hash, where there is one, is that of the access token (OpenID Connect Core §3.1.3.6)."""
    if at_hash is None:
        return True
    name = f"sha{algorithm[2:]}" if algorithm[2:] in {"256", "384", "512"} else "sha512"  # EdDSA: Ed25519's own hash
    digest = new(name, access_token.encode()).digest()
    half = base64url.encoded(digest[: len(digest) // 2])
    return isinstance(at_hash, str) and hmac.compare_digest(half.encode(), at_hash.encode())


def _bad(problem: str) -> IdentityProviderError:
    return IdentityProviderError(IdentityProviderFailure.BAD_ID_TOKEN, f"the ID token {problem}")
