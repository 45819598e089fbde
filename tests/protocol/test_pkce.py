from string import ascii_letters, digits

from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.protocol import pkce

UNRESERVED = ascii_letters + digits + "-._~"


@given(st.text(UNRESERVED, min_size=43, max_size=128))
def test_43_to_128_unreserved_characters_are_valid(value: str) -> None:
    assert pkce.has_valid_length(value)
    assert pkce.has_valid_format(value)


@given(st.text())
def test_anything_with_another_character_has_a_bad_format(value: str) -> None:
    assert pkce.has_valid_format(value) == all(character in UNRESERVED for character in value)


def test_the_length_is_counted_at_both_ends() -> None:
    valid = [length for length in range(200) if pkce.has_valid_length("a" * length)]
    assert (valid[0], valid[-1], len(valid)) == (43, 128, 86)


def test_a_newline_at_the_end_is_a_bad_format() -> None:
    assert not pkce.has_valid_format("a" * 43 + "\n")
