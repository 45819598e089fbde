"""The keys that sign our own access tokens (RFC 9068): read from PEM, and published as a JWK Set (RFC 7517).

joserfc is imported on first use, as in `jwk`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from seed_oauth.protocol.jwk import RSA_BITS, verify

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

_BEGIN = "-----BEGIN "


def pem_blocks(text: str) -> tuple[str, ...]:
    """The blocks of a PEM file (RFC 7468 §2), without what is before the first; all of the text if there is none."""
    before, *blocks = text.split(_BEGIN)
    if not blocks and before.strip():
        return (before,)  # which is refused, as no key
    return tuple(f"{_BEGIN}{block}".strip() for block in blocks)


def algorithm_of(pem: str) -> str:
    """The algorithm that a private key signs with: ES256, or RS256, which RFC 9068 §2.1 demands of everybody.

    Raises:
        ValueError: it is not the PEM of such a key, without a passphrase.
    """
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError("is not a private key in PEM without a passphrase") from None
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, RSAPrivateKey) and key.key_size in RSA_BITS:
        return "RS256"
    raise ValueError("is neither a P-256 key nor an RSA key of 2048 to 4096 bits")


class SigningKeys:
    """Signs JWTs with the first key, and verifies those that any of the keys has signed."""

    def __init__(self, pems: Sequence[str]) -> None:
        """The PEM of one private key each."""
        # RFC 7638: the name follows from the key, so it needs no setting and never names another one.
        self._keys = {key.thumbprint(): key for key in map(_read, pems)}

    @property
    def published(self) -> dict[str, object]:
        """The JWK Set, which has no private key."""
        keys = self._keys.items()
        return {"keys": [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in keys]}

    def sign(self, kind: str, claims: Mapping[str, object]) -> str:
        """The claims as a JWT with the `typ` that says what it is (RFC 8725 §3.11)."""
        from joserfc import jwt  # noqa: PLC0415 - see above

        kid, key = next(iter(self._keys.items()))
        return jwt.encode({"alg": key.alg, "typ": kind, "kid": kid}, dict(claims), key)

    def verify(self, signed: str, key_id: str | None) -> dict[str, object] | None:
        """The claims of a JWT that the key with this name has signed; None if there is no such key.

        Raises:
            BadSignatureError: it has not.
        """
        key = self._keys.get(key_id or "")
        return None if key is None else verify(signed, [key])


def _read(pem: str) -> "ECKey | RSAKey":
    from joserfc.jwk import ECKey, RSAKey  # noqa: PLC0415 - see above

    algorithm = algorithm_of(pem)
    make = ECKey if algorithm == "ES256" else RSAKey
    return make.import_key(pem, {"alg": algorithm})
