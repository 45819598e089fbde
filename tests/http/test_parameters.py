"""PROTOCOL A7 and what RFC 6749 §3.1 says of parameters."""

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.http.parameters import (
    MAXIMUM_BODY,
    BodyTooLargeError,
    MalformedRequestError,
    add_to_query,
    encode_form,
    parse_form,
)

printable = st.text().filter(str.isprintable)


@given(st.dictionaries(printable.filter(bool), printable.filter(bool), max_size=64))
def test_what_was_encoded_is_read_back(parameters: dict[str, str]) -> None:
    assert parse_form(urlencode(parameters).encode()) == parameters


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_and_what_is_read_is_printable(encoded: bytes) -> None:
    try:
        parameters = parse_form(encoded)
    except MalformedRequestError:
        return
    assert all(value and value.isprintable() for value in parameters.values())


def test_a_parameter_without_a_value_counts_as_omitted() -> None:
    assert parse_form(b"a=&b&c=1") == {"c": "1"}


@pytest.mark.parametrize("encoded", [b"a=1&a=2", b"a=&a=1", b"a&a", b"a=1&%61=1"])
def test_a_parameter_that_comes_twice_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="twice"):
        parse_form(encoded)


def test_more_than_64_kib_or_64_parameters_are_refused() -> None:
    with pytest.raises(BodyTooLargeError):
        parse_form(b"a=" + b"b" * MAXIMUM_BODY)
    with pytest.raises(MalformedRequestError, match="more than 64"):
        parse_form(urlencode({f"p{number}": 1 for number in range(65)}).encode())


@given(st.dictionaries(printable, printable))
def test_parameters_are_encoded_as_the_standard_library_does(parameters: dict[str, str]) -> None:
    assert encode_form(parameters) == urlencode(parameters)


@given(st.dictionaries(printable.filter(bool), printable, min_size=1))
def test_parameters_are_added_to_the_query_that_is_there(parameters: dict[str, str]) -> None:
    url = add_to_query(
        "https://app.example/callback?tenant=a%26b", {"a" + name: parameters[name] for name in parameters}
    )
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert query.pop("tenant") == ["a&b"]
    assert query == {"a" + name: [value] for name, value in parameters.items()}
