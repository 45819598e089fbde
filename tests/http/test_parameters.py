"""PROTOCOL A7 and what RFC 6749 §3.1 says of parameters."""

from unicodedata import category
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


NAMES = st.sampled_from(["redirect_uri", "resource", "scope", "client_id", "state", "code"])
VALUES = printable.filter(bool) | st.sampled_from(["https://app.example/callback", "a b", "ü", "/" * 513])


@given(st.dictionaries(NAMES, VALUES))
def test_parameters_that_come_again_are_written_as_all_others_are(parameters: dict[str, str]) -> None:
    encoded = encode_form(parameters)
    assert encoded == urlencode(parameters)
    assert parse_form(encoded.encode()) == parameters


@given(st.lists(st.binary(max_size=20), max_size=3))
def test_a_parameter_that_comes_again_is_as_unusable_as_any_other(values: list[bytes]) -> None:
    def read(name: bytes) -> object:
        parameters = parse_form(b"&".join(name + b"=" + value.replace(b"&", b"") for value in values))
        try:
            return parameters.get(name.decode())
        except MalformedRequestError as malformed:
            return str(malformed).removeprefix(name.decode())

    assert read(b"redirect_uri") == read(b"anything")


@given(st.binary(max_size=300))
def test_of_any_bytes_what_can_be_read_has_no_control_characters_but_tabs(encoded: bytes) -> None:
    for value in parse_form(encoded).values():
        assert value
        assert not [one for one in value if (category(one) == "Cc" and one != "\t") or one in "\u2028\u2029"]


def test_a_parameter_without_a_value_counts_as_omitted() -> None:
    assert parse_form(b"a=&b&c=1") == {"c": "1"}


UNUSABLE = [
    (b"a=1&a=2", "a was sent twice"),
    (b"a=&a=1", "a was sent twice"),
    (b"a&a", "a was sent twice"),
    (b"a=1&%61=1", "a was sent twice"),
    (b"a=x%00", "a contains control characters"),
    (b"a=x%0d%0aSet-Cookie:x", "a contains control characters"),
    (b"a=%1b[2J", "a contains control characters"),
    (b"a=%7f", "a contains control characters"),
    (b"a=%c2%85", "a contains control characters"),
    (b"a=%e2%80%a8", "a contains control characters"),
    (b"a=%ff", "a must be percent-encoded UTF-8"),
    (b"a=%ed%a0%80", "a must be percent-encoded UTF-8"),
    (b"a=\xc3\xa9", "a must be percent-encoded UTF-8"),
]


@pytest.mark.parametrize(("encoded", "problem"), UNUSABLE)
def test_an_unusable_parameter_is_refused_when_it_is_read(encoded: bytes, problem: str) -> None:
    parameters = parse_form(encoded + b"&b=1")
    for read in (parameters.__getitem__, parameters.get, parameters.__contains__):
        with pytest.raises(MalformedRequestError, match=problem):
            read("a")


@pytest.mark.parametrize(("encoded", "_"), UNUSABLE)
def test_a_parameter_that_nobody_reads_may_be_anything(encoded: bytes, _: str) -> None:
    """RFC 6749 §3.1: "The authorization server MUST ignore unrecognized request parameters"."""
    parameters = parse_form(b"code=x&" + encoded + b"&%ff=1&\xe9=1&state=y")
    assert (parameters["code"], parameters.get("state"), "iss" in parameters) == ("x", "y", False)
    assert parameters == {"code": "x", "state": "y"}
    assert len(parameters) == 2


@pytest.mark.parametrize(
    "value", ["a\u00a0b", "全角\u3000スペース", "tab\tbed", "👩\u200d💻", "soft\u00adhyphen", "\ufeffBOM"]
)
def test_what_people_type_is_no_control_character(value: str) -> None:
    assert parse_form(urlencode({"a": value}).encode()) == {"a": value}


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (b"AADSTS65004%3a+declined.%0d%0aTrace+ID%3a+1", "AADSTS65004: declined.\r\nTrace ID: 1"),
        (b"first&error_description=second", "first"),
        (b"%ff", None),
        (b"", None),
    ],
)
def test_text_for_people_may_look_like_anything(encoded: bytes, text: str | None) -> None:
    sent = b"error=access_denied&error_description=" + encoded
    parameters = parse_form(sent, prose={"error_description"})
    assert parameters["error"] == "access_denied"
    assert parameters.get("error_description") == text


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
