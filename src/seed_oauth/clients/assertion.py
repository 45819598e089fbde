"""Client authentication by a signed assertion: private_key_jwt (RFC 7523 §2.2 and §3, OpenID Connect Core §9)."""

from collections.abc import Callable
from time import time
from typing import Protocol

from seed_oauth.clients import Client
from seed_oauth.clients.keys import ClientKeys
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS, BadSignatureError, key_id_of, unverified, verify

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The only supported `client_assertion_type` (RFC 7523 §2.2)."""

LONGEST_LIFETIME = 600
"""Seconds for which an assertion may be valid, and for which its use must be stored."""

CLOCK_SKEW = 60
"""Seconds by which the clock of a client may differ."""


class BadAssertionError(Exception):
    """The assertion does not authenticate the client; the message says why, without quoting it."""


class UsedAssertions(Protocol):
    """A store of used assertions. Raises `StoreError` if the store does not work."""

    async def use(self, client_id: str, jti: str, *, expires_at: float, now: float) -> bool:
        """Mark an assertion as used; True only for the first call, in whichever process."""
        ...


class ClientAssertions:
    """Verifies client assertions."""

    def __init__(
        self,
        issuer: str,
        keys: ClientKeys,
        used: UsedAssertions,
        now: Callable[[], float] = time,
    ) -> None:
        """`issuer` is this server's issuer identifier; `now` counts seconds since the epoch."""
        self._issuer = issuer
        self._keys = keys
        self._used = used
        self._now = now

    async def verify(self, client: Client, assertion: str) -> None:
        """Return if `client` has signed `assertion`, and it has not been used before.

        Raises:
            BadAssertionError: it is not valid.
            BadClientDocumentError: the keys that the client publishes break a rule.
            StoreError: it cannot be verified now.
        """
        claims = await self._signed_claims(client, assertion)
        now = self._now()
        expires_at = self._check_claims(client, claims, now)
        first = await self._used.use(client.client_id, str(claims["jti"]), expires_at=expires_at + CLOCK_SKEW, now=now)
        if not first:
            raise BadAssertionError("the client_assertion was used before: sign a new one for each request")

    async def _signed_claims(self, client: Client, assertion: str) -> dict[str, object]:
        try:
            header, _ = unverified(assertion)
        except BadSignatureError:
            raise BadAssertionError("the client_assertion is not a signed JWT") from None
        if header.get("alg") not in SIGNING_ALGORITHMS:
            raise BadAssertionError(f"the client_assertion must be signed with one of {', '.join(SIGNING_ALGORITHMS)}")
        keys = await self._keys.find(client, key_id_of(header))
        try:
            return verify(assertion, keys)
        except BadSignatureError:
            raise BadAssertionError(
                "the client_assertion is not signed with a key that this client publishes"
            ) from None

    def _check_claims(self, client: Client, claims: dict[str, object], now: float) -> float:
        """When the assertion expires."""
        from joserfc.errors import ClaimError, MissingClaimError  # noqa: PLC0415 - see `protocol.jwk`
        from joserfc.jwt import JWTClaimsRegistry  # noqa: PLC0415 - the same

        registry = JWTClaimsRegistry(
            now=int(now),
            leeway=CLOCK_SKEW,
            iss={"essential": True, "value": client.client_id},
            sub={"essential": True, "value": client.client_id},
            aud={"essential": True},
            exp={"essential": True},
            jti={"essential": True},
        )
        try:
            registry.validate(claims)
        except MissingClaimError:
            raise BadAssertionError("the client_assertion must have iss, sub, aud, exp and jti") from None
        except ClaimError as bad:
            raise BadAssertionError(_OBJECTIONS[bad.claim]) from None
        # Not the token endpoint, which a malicious server can name as its own, and nobody else, who could send the
        # assertion on (draft-ietf-oauth-rfc7523bis §4).
        if claims["aud"] not in (self._issuer, [self._issuer]):
            raise BadAssertionError(_OBJECTIONS["aud"])
        expires_at = claims["exp"]
        assert isinstance(expires_at, int | float)  # noqa: S101 - the registry has checked it
        if expires_at > now + LONGEST_LIFETIME + CLOCK_SKEW:
            raise BadAssertionError(f"the client_assertion must expire within {LONGEST_LIFETIME} seconds")
        return expires_at


_OBJECTIONS = {
    "iss": "the client_assertion must have the client_id as its iss",
    "sub": "the client_assertion must have the client_id as its sub",
    "aud": "the client_assertion must have the issuer of this server as its only aud",
    "exp": "the client_assertion has expired: sign a new one for each request",
    "nbf": "the client_assertion is not valid yet: check the clock",
    "iat": "the client_assertion was issued in the future: check the clock",
    "jti": "the client_assertion must have a string as its jti",
}
