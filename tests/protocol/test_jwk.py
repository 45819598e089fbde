"""Public keys, and verification of JWTs with them."""

import hmac
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from seed_oauth.protocol.jwk import (
    MAXIMUM_KEYS,
    SIGNING_ALGORITHMS,
    BadKeysError,
    BadSignatureError,
    read_jwk_set,
    unverified,
    verify,
)

EC = ECKey.generate_key("P-256")
RSA = RSAKey.generate_key(2048)
ED = OKPKey.generate_key("Ed25519")


def jwks(*keys: Any, **members: str) -> dict[str, object]:
    return {"keys": [{**key.as_dict(private=False), **members} for key in keys]}


def base64url(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


def weak_rsa() -> Any:
    with pytest.warns(SecurityWarning):
        return RSAKey.generate_key(1024)


def test_keys_of_every_kind_are_read() -> None:
    assert len(read_jwk_set(jwks(EC, RSA, ED))) == 3


def test_keys_that_cannot_verify_a_signature_are_ignored() -> None:
    """RFC 7517 §5."""
    strange: list[object] = [
        None,
        [],
        "key",
        {"kty": "AKP", "alg": "ML-DSA-44"},
        {"kty": "RSA", "n": 7},
        {},
        {"kty": ["RSA"]},
    ]
    encryption = jwks(RSA, use="enc")["keys"]
    assert isinstance(encryption, list)
    good = jwks(EC)["keys"]
    assert isinstance(good, list)
    assert len(read_jwk_set({"keys": [*strange, *encryption, *good]})) == 1


@pytest.mark.parametrize(
    ("published", "objection"),
    [
        (None, "must be a JWK Set"),
        ([], "must be a JWK Set"),
        ({}, "must be a JWK Set"),
        ({"keys": {}}, "must be a JWK Set"),
        ({"keys": ["key", None, 7, []]}, "no usable key"),
        ({"keys": []}, "no usable key"),
        (jwks(RSA, use="enc"), "no usable key"),
        ({"keys": [{"kty": "oct"}]}, "no usable key"),
        ({"keys": [OctKey.generate_key(256).as_dict(private=True)]}, "must have public keys only"),
        ({"keys": [EC.as_dict(private=True)]}, "must have public keys only"),
        ({"keys": [RSA.as_dict(private=False), RSA.as_dict(private=True)]}, "must have public keys only"),
        ({"keys": [EC.as_dict(private=False)] * (MAXIMUM_KEYS + 1)}, "must not have more than"),
    ],
)
def test_an_invalid_jwk_set_is_refused(published: object, objection: str) -> None:
    with pytest.raises(BadKeysError, match=objection):
        read_jwk_set(published)


def test_weak_and_oversized_rsa_keys_are_ignored() -> None:
    with pytest.raises(BadKeysError, match="no usable key"):
        read_jwk_set(jwks(weak_rsa()))
    huge = {"kty": "RSA", "e": "AQAB", "n": "_" * 1400}  # 8,400 bits
    with pytest.raises(BadKeysError, match="no usable key"):
        read_jwk_set({"keys": [huge]})


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("RS256", RSA), ("PS256", RSA), ("RS512", RSA), ("ES256", EC), ("EdDSA", ED), ("Ed25519", ED)],
)
def test_a_jwt_signed_with_one_of_the_keys_is_verified(algorithm: str, key: Any) -> None:
    signed = sign({"a": 1}, key, algorithm)
    assert verify(signed, read_jwk_set(jwks(EC, RSA, ED))) == {"a": 1}
    others = [other for other in (EC, RSA, ED) if other is not key]
    with pytest.raises(BadSignatureError):
        verify(signed, read_jwk_set(jwks(*others)))


def sign(claims: dict[str, Any], key: Any, algorithm: str) -> str:
    if algorithm == "EdDSA":
        with pytest.warns(SecurityWarning):
            return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])
    return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])


def test_only_asymmetric_algorithms_are_allowed() -> None:
    """THREATS 16: `none` does not sign, and a public key must not be used as an HMAC secret."""
    assert not [name for name in SIGNING_ALGORITHMS if name.lower() == "none" or name.startswith("HS")]
    keys = read_jwk_set(jwks(RSA))
    with pytest.warns(SecurityWarning):
        unsigned = jwt.encode({"alg": "none"}, {"a": 1}, RSA, algorithms=["none"])
    content = b".".join(map(base64url, (b'{"alg":"HS256"}', b'{"a":1}')))  # joserfc refuses to create this
    signature = hmac.digest(RSA.as_pem(private=False), content, "sha256")
    with_public_key = b".".join([content, base64url(signature)]).decode()
    for forged in (unsigned, with_public_key):
        with pytest.raises(BadSignatureError):
            verify(forged, keys)


def test_a_key_in_the_header_is_not_trusted() -> None:
    other = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "jwk": other.as_dict(private=False), "jku": "https://evil.example/jwks.json"}
    with pytest.raises(BadSignatureError):
        verify(jwt.encode(header, {"a": 1}, other), read_jwk_set(jwks(EC)))


def test_an_unknown_header_parameter_is_ignored_unless_critical() -> None:
    """RFC 7515 §4 and §4.1.11."""
    registry = JWSRegistry(strict_check_header=False)
    keys = read_jwk_set(jwks(EC))
    assert verify(jwt.encode({"alg": "ES256", "x-app": 1}, {}, EC, registry=registry), keys) == {}
    header, _, rest = jwt.encode({"alg": "ES256"}, {}, EC).partition(".")
    assert header
    critical = "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsieC1hcHAiXSwieC1hcHAiOjF9." + rest
    with pytest.raises(BadSignatureError):
        verify(critical, keys)


def test_claims_can_be_read_before_verification() -> None:
    header, claims = unverified(jwt.encode({"alg": "ES256", "kid": "k"}, {"sub": "a"}, EC))
    assert (header["kid"], claims) == ("k", {"sub": "a"})


def test_the_payload_must_be_an_object() -> None:
    signed = serialize_compact({"alg": "ES256"}, b"[]", EC)
    with pytest.raises(BadSignatureError):
        unverified(signed)
    with pytest.raises(BadSignatureError):
        verify(signed, read_jwk_set(jwks(EC)))


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}", fullmatch=True))
def test_malformed_input_is_a_bad_signature(sent: str) -> None:
    with pytest.raises(BadSignatureError):
        verify(sent, read_jwk_set(jwks(EC, RSA)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["RSA", "EC", "OKP", "P-256"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=3,
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["kty", "n", "e", "crv", "x", "y", "use", "key_ops", "alg", "kid"]), json_values
        )
    )
)
def test_any_jwk_set_is_read_or_refused(keys: list[dict[str, object]]) -> None:
    good = EC.as_dict(private=False)
    if len(keys) < MAXIMUM_KEYS:
        assert read_jwk_set({"keys": [*keys, good]})


@given(st.dictionaries(st.sampled_from(["crv", "x", "y", "n", "e", "use", "key_ops", "alg", "kid"]), json_values))
def test_a_modified_key_is_read_or_refused(changes: dict[str, object]) -> None:
    for key in (EC, RSA, ED):
        published = {**key.as_dict(private=False), **changes}
        assert read_jwk_set({"keys": [published, EC.as_dict(private=False)]})
