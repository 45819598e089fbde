"""Reading, publishing and rotating the keys that sign our own access tokens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import KeySet

from seed_oauth.protocol.jwk import BadSignatureError, read_jwk_set, unverified, verify
from seed_oauth.protocol.signing_keys import SigningKeys, algorithm_of, pem_blocks
from tests.issued_tokens import EC_PEM, UNUSABLE, ec_pem, rsa_pem, signed_with

OTHER = ec_pem("other")


@pytest.mark.parametrize(("pem", "algorithm"), [(EC_PEM, "ES256"), (rsa_pem(), "RS256")])
def test_whoever_has_the_jwk_set_can_check_a_signature(pem: str, algorithm: str) -> None:
    """PROTOCOL J1."""
    keys = SigningKeys([pem])
    signed = keys.sign("at+jwt", {"sub": "alice"})
    header, _ = unverified(signed)
    assert (header["alg"], header["typ"]) == (algorithm, "at+jwt")
    published = read_jwk_set(json.loads(json.dumps(keys.published)))
    assert [key.get("kid") for key in published] == [header["kid"]]
    assert verify(signed, published) == {"sub": "alice"}


def test_a_key_is_named_by_its_thumbprint_and_published_without_its_private_part() -> None:
    """RFC 7638."""
    (jwk,) = KeySet.import_key_set(SigningKeys([EC_PEM]).published).keys  # type: ignore[arg-type]
    assert jwk.get("kid") == jwk.thumbprint()
    assert not jwk.is_private
    assert (jwk.get("alg"), jwk.get("use")) == ("ES256", "sig")


def test_the_first_key_signs_and_all_of_them_verify() -> None:
    before, during = SigningKeys([EC_PEM]), SigningKeys([OTHER, EC_PEM])
    old, new = before.sign("at+jwt", {"n": 1}), during.sign("at+jwt", {"n": 2})
    assert during.verify(old, unverified(old)[0]["kid"]) == {"n": 1}  # type: ignore[arg-type]
    assert during.verify(new, unverified(new)[0]["kid"]) == {"n": 2}  # type: ignore[arg-type]
    assert before.verify(new, unverified(new)[0]["kid"]) is None  # type: ignore[arg-type]
    assert before.verify(new, None) is None


def test_a_signature_of_another_key_than_the_one_that_is_named_is_bad() -> None:
    keys = SigningKeys([EC_PEM, OTHER])
    first, second = (one["kid"] for one in keys.published["keys"])  # type: ignore[attr-defined]
    with pytest.raises(BadSignatureError):
        keys.verify(signed_with(EC_PEM, {}, kid=second), second)
    assert keys.verify(signed_with(EC_PEM, {}), first) == {}


@pytest.mark.parametrize("pem", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_other_keys_are_refused(pem: str) -> None:
    with pytest.raises(ValueError, match=r"^is (not a private key in PEM|neither a P-256 key)"):
        algorithm_of(pem)


@given(st.lists(st.sampled_from([EC_PEM, OTHER]), max_size=3), st.sampled_from(["", "\n", " ", "\r\n", "\nkid 1\n"]))
def test_a_file_has_its_blocks_in_order_whatever_is_between_them(pems: list[str], between: str) -> None:
    found = pem_blocks(between.join(["", *pems, ""])) if pems else ()
    assert [SigningKeys([one]).published for one in found] == [SigningKeys([one]).published for one in pems]


@given(st.text())
def test_any_other_text_is_one_block_which_is_no_key(text: str) -> None:
    for block in pem_blocks(text):
        with pytest.raises(ValueError, match="not a private key"):
            algorithm_of(block)
