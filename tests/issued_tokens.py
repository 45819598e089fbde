"""What the tests of tokens that others can check share: signing keys, and a resource server that asks about them."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.harness import ISSUER

RESOURCE = f"{ISSUER}/mcp"
CALLER_SECRET = "a-secret-of-the-files-server-0123456789"


def pem_of(key: PrivateKeyTypes) -> str:
    """A private key as `openssl genpkey` prints it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@cache
def ec_pem(name: str = "") -> str:
    """A new P-256 key; the same one for the same name."""
    del name
    return pem_of(ec.generate_private_key(ec.SECP256R1()))


@cache
def rsa_pem(bits: int = 2048) -> str:
    """An RSA key."""
    return pem_of(rsa.generate_private_key(65537, bits))


EC_PEM = ec_pem()
UNUSABLE = {
    "another curve": pem_of(ec.generate_private_key(ec.SECP384R1())),
    "Ed25519": pem_of(ed25519.Ed25519PrivateKey.generate()),
    "a short RSA key": pem_of(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be refused
    "a public key": ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode(),
    "a passphrase": ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    .decode(),
    "half a key": EC_PEM[:100],
    "not base64": "-----BEGIN PRIVATE KEY-----\n=\n-----END PRIVATE KEY-----",
}
"""Text that cannot be a signing key, by what it is."""

SIGNED: Mapping[str, Any] = {"access_tokens": "jwt", "signing_keys": EC_PEM}
"""The settings of a door that signs its access tokens."""
CHECKED: Mapping[str, Any] = {"introspection_clients": [{"client_id": "files", "client_secret": CALLER_SECRET}]}
"""The settings of a door that a resource server may ask."""


def signed_with(pem: str, claims: Mapping[str, Any], **header: Any) -> str:
    """A JWT that is signed with a P-256 key as the door would, but for `header`; None leaves a field out."""
    key = ECKey.import_key(pem)
    fields = {"alg": "ES256", "typ": "at+jwt", "kid": key.thumbprint(), **header}
    return jwt.encode({name: value for name, value in fields.items() if value is not None}, dict(claims), key)


def by_hand(claims: Mapping[str, Any], algorithm: str, secret: bytes | None) -> str:
    """A JWT that no library would sign."""
    header = {"alg": algorithm, "typ": "at+jwt", "kid": ECKey.import_key(EC_PEM).thumbprint()}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signing = b".".join(parts)
    mac = b"" if secret is None else hmac.new(secret, signing, hashlib.sha256).digest()
    return b".".join([signing, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()
