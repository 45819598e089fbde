"""Base64url: one text for the same bytes, and nothing else is read."""

import string
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.protocol import base64url


@given(st.binary())
def test_what_is_encoded_can_be_decoded_and_is_rfc_4648_without_padding(data: bytes) -> None:
    text = base64url.encoded(data)
    assert text == urlsafe_b64encode(data).decode().rstrip("=")
    assert base64url.decoded(text) == data


@given(st.text(string.ascii_letters + "-_+/=.\n\x00é", max_size=12))
def test_only_what_is_encoded_is_decoded(text: str) -> None:
    try:
        data = base64url.decoded(text)
    except ValueError:
        return
    assert base64url.encoded(data) == text


@given(st.text(string.ascii_letters + string.digits + "-_=", min_size=1, max_size=4))
def test_of_all_endings_one_is_decoded(ending: str) -> None:
    for text in (ending, f"AAAA{ending}"):
        try:
            data = base64url.decoded(text)
        except ValueError:
            continue
        assert base64url.encoded(data) == text


@given(st.binary(min_size=1))
def test_no_other_spelling_is_decoded(data: bytes) -> None:
    text = base64url.encoded(data)
    others = {b64encode(data).decode(), b64encode(data).decode().rstrip("="), urlsafe_b64encode(data).decode()}
    for other in (others | {f"{text}=", f"{text}==", f"{text}\n", f" {text}"}) - {text}:
        with pytest.raises(ValueError, match=r"."):
            base64url.decoded(other)
