"""Public keys in JWK Sets (RFC 7517), and verification of JWTs with them (RFC 7515, RFC 7519).

joserfc is imported on first use: most deployments never need it, and start faster without it.
"""

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import orjson

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

SIGNING_ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""Asymmetric algorithms only: `none` does not sign, and HMAC would use a public key as its secret."""

MAXIMUM_KEYS = 16

RSA_BITS = range(2048, 4097)
"""Shorter keys are weak (NIST SP 800-131A), longer ones take too long to verify."""

_PRIVATE = "a private or symmetric key"
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 §6

PublicKey: TypeAlias = "RSAKey | ECKey | OKPKey"


class BadKeysError(ValueError):
    """Not a usable set of public keys; the message says why."""


class BadSignatureError(Exception):
    """Not a JWT that one of the keys has signed with an allowed algorithm."""


def read_jwk_set(jwk_set: object) -> tuple[PublicKey, ...]:
    """The keys of a JWK Set that can verify a signature; others are ignored (RFC 7517 §5).

    Raises:
        BadKeysError: it is not a JWK Set, has too many keys or no usable one, or contains a private key.
    """
    keys, skipped = usable_keys(jwk_set)
    if len(keys) + sum(skipped.values()) > MAXIMUM_KEYS:
        raise BadKeysError(f"must not have more than {MAXIMUM_KEYS} keys")
    if _PRIVATE in skipped:
        raise BadKeysError("must have public keys only: replace the private key, which is compromised")
    if not keys:
        raise BadKeysError("has no usable key: publish an RSA key of 2048 to 4096 bits or a key for ES256")
    return keys


def usable_keys(jwk_set: object) -> tuple[tuple[PublicKey, ...], dict[str, int]]:
    """The keys of a JWK Set that can verify a signature, and why others are skipped: how many for each reason.

    Raises:
        BadKeysError: it is not a JWK Set.
    """
    listed = jwk_set.get("keys") if isinstance(jwk_set, Mapping) else None
    if not isinstance(listed, list):
        raise BadKeysError("must be a JWK Set: an object with a list of keys")
    read = [_read_key(jwk) for jwk in listed]
    return tuple(one for one in read if not isinstance(one, str)), Counter(one for one in read if isinstance(one, str))


def verify(signed: str, keys: Collection[PublicKey]) -> dict[str, object]:
    """The claims of a JWT that one of `keys` has signed.

    Raises:
        BadSignatureError: no key has signed it, or its payload is not a claims set.
    """
    from joserfc import jws, jwt  # noqa: PLC0415 - see above

    # RFC 7515 §4: unknown header parameters are ignored, except those in `crit`.
    registry = jws.JWSRegistry(algorithms=SIGNING_ALGORITHMS, strict_check_header=False)
    for key in keys:
        try:
            with _strictly():
                return jwt.decode(signed, key, registry=registry).claims
        except _MalformedError:
            continue
    raise BadSignatureError


def unverified(signed: str) -> tuple[dict[str, object], dict[str, object]]:
    """The header and claims of a JWT without verification, to find the key for it.

    Raises:
        BadSignatureError: it is not a JWT.
    """
    from joserfc import jws  # noqa: PLC0415 - see above

    try:
        with _strictly():
            compact = jws.extract_compact(signed.encode())
            claims = orjson.loads(compact.payload or b"")
    except _MalformedError as malformed:
        raise BadSignatureError from malformed
    if not isinstance(claims, dict):
        raise BadSignatureError
    return compact.headers(), claims


def audiences_of(claims: Mapping[str, object]) -> list[object]:
    """Whom a JWT is for: one or several (RFC 7519 §4.1.3)."""
    audience = claims.get("aud")
    return audience if isinstance(audience, list) else [audience]


def key_id_of(header: Mapping[str, object]) -> str | None:
    """The key that a JWT names (RFC 7515 §4.1.4); None if it names none."""
    key_id = header.get("kid")
    return key_id if isinstance(key_id, str) else None


def _read_key(jwk: object) -> "PublicKey | str":
    """The key, or why it cannot be used."""
    from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey  # noqa: PLC0415 - see above

    if not isinstance(jwk, dict):
        return "not an object"
    if _PRIVATE_MEMBERS & jwk.keys():
        return _PRIVATE
    if jwk.get("use", "sig") != "sig":
        return "not for signatures"
    try:
        with _strictly():
            key = JWKRegistry.import_key(jwk)
            bits = key.public_key.key_size if isinstance(key, RSAKey) else None
    except _MalformedError:
        return "not a valid key"
    if bits is not None and bits not in RSA_BITS:
        return "an RSA key of less than 2048 or more than 4096 bits"
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else "not a public key"


class _MalformedError(Exception):
    pass


@contextmanager
def _strictly() -> Iterator[None]:
    """Turn every error that joserfc raises on malformed input into one, and drop its warnings about clients' keys."""
    from joserfc.errors import JoseError, SecurityWarning  # noqa: PLC0415 - see above

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            yield
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as malformed:
        raise _MalformedError from malformed
