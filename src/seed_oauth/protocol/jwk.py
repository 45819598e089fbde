"""Public keys that somebody publishes as a JWK Set (RFC 7517), and what was signed with them (RFC 7515).

joserfc is imported with the first of them: most doors meet none, and start with less memory without it.
"""

import warnings
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
"""Asymmetric ones only: `none` signs nothing, and HMAC would make a secret of what everybody can read."""

MAXIMUM_KEYS = 16

_RSA_BITS = range(2048, 4097)  # shorter ones can be broken (NIST SP 800-131A), longer ones cost too much to verify

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 §6

PublicKey: TypeAlias = "RSAKey | ECKey | OKPKey"


class BadKeysError(ValueError):
    """What is published is no set of public keys; the message says why."""


class BadSignatureError(Exception):
    """What was sent is not signed with any of the keys, or not by an algorithm that is allowed."""


def read_jwk_set(jwk_set: object) -> tuple[PublicKey, ...]:
    """The keys of a JWK Set that can verify a signature; RFC 7517 §5 asks to ignore the others.

    Raises:
        BadKeysError: it is no JWK Set, has too many keys or none that is of use, or tells a private key.
    """
    listed = jwk_set.get("keys") if isinstance(jwk_set, Mapping) else None
    if not isinstance(listed, list) or not all(isinstance(jwk, dict) for jwk in listed):
        raise BadKeysError("must be a JWK Set, an object with a list of keys")
    if len(listed) > MAXIMUM_KEYS:
        raise BadKeysError(f"must not have more than {MAXIMUM_KEYS} keys")
    if any(_PRIVATE_MEMBERS & jwk.keys() for jwk in listed):
        raise BadKeysError("must have public keys only: what is published here is no secret any more")
    keys = tuple(key for jwk in listed if (key := _read_key(jwk)) is not None)
    if not keys:
        raise BadKeysError("has no key that can be used: publish an RSA key of 2048 to 4096 bits, or one for ES256")
    return keys


def verify(signed: str, keys: Collection[PublicKey]) -> dict[str, object]:
    """The claims of a JWT that one of `keys` has signed.

    Raises:
        BadSignatureError: none of them has, or what is signed is no claims set.
    """
    from joserfc import jws, jwt  # noqa: PLC0415 - see above

    # RFC 7515 §4: header parameters that are not understood are ignored, but for those in `crit`.
    registry = jws.JWSRegistry(algorithms=SIGNING_ALGORITHMS, strict_check_header=False)
    for key in keys:
        try:
            with _strictly():
                return jwt.decode(signed, key, registry=registry).claims
        except _MalformedError:
            continue
    raise BadSignatureError


def unverified(signed: str) -> tuple[dict[str, object], dict[str, object]]:
    """The header and the claims of a JWT as its sender wrote them, to find the key by.

    Raises:
        BadSignatureError: it is none.
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


def _read_key(jwk: dict[str, object]) -> "PublicKey | None":
    from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey  # noqa: PLC0415 - see above

    if jwk.get("use", "sig") != "sig":
        return None
    try:
        with _strictly():
            key = JWKRegistry.import_key(jwk)  # type: ignore[arg-type]  # it checks the members' types
            too_weak = isinstance(key, RSAKey) and key.public_key.key_size not in _RSA_BITS
    except _MalformedError:
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) and not too_weak else None


class _MalformedError(Exception):
    pass


@contextmanager
def _strictly() -> Iterator[None]:
    """Whatever the library raises at what is no JOSE is one error, and its opinion of clients' keys goes nowhere."""
    from joserfc.errors import JoseError, SecurityWarning  # noqa: PLC0415 - see above

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            yield
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as malformed:
        raise _MalformedError from malformed
