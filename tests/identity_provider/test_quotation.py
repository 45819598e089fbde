"""What identity providers say is logged on one line, bounded, and without anything secret (THREATS 12)."""

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.identity_provider.quotation import quotation

TRACE = "0000aaaa-11bb-cccc-dd22-eeeeee333333"


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (f"AADSTS65004: declined.\r\nTrace ID: {TRACE}\r\n", f"AADSTS65004: declined. Trace ID: {TRACE}"),
        (f"no token for api://{TRACE}/mcp", f"no token for api://{TRACE}/mcp"),
        ("utilisateur\u00a0désactivé\u3000👩\u200d💻\t!", "utilisateur désactivé 👩 💻 !"),
        ("\x1b[31mred\x00\u2028line\u202ereversed", "[31mred line reversed"),
        ("ログインしてください" * 5, "ログインしてください" * 5),
        ("code_challenge_method is missing", "code_challenge_method is missing"),
        ("", None),
        (" \r\n", None),
        (None, None),
        (7, None),
        ({"message": "no"}, None),
    ],
)
def test_words_become_one_line(words: object, quoted: str | None) -> None:
    assert quotation(words) == quoted


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSBpbiB3b25kZXJsYW5kIn0.c2lnbmF0dXJlIG9mIHRoZSB0b2tlbg",
        "1//xEoDL4iW3cxlI7yDbSRFYNG01kVKM2C-259HOF2aQbI",
        "gho_16C7e42F292c6912E7710c838347Ae178B4a",
        "0.AXoAEkb8wNqk1EeBmQ3mRjb6v8r9wq3cE5pJ",
        f"{TRACE}x",
    ],
)
def test_what_looks_like_a_secret_is_left_out_although_nobody_said_that_it_is_one(secret: str) -> None:
    for part in filter(lambda one: len(one) >= 20, secret.replace("/", ".").split(".")):
        assert part not in str(quotation(f"cannot use {secret} here"))


@pytest.mark.parametrize("secret", ["short", "a b&c", "päss/word", "x+y="])
def test_what_was_sent_is_left_out_in_any_spelling(secret: str) -> None:
    for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
        assert quotation(f"bad value ({spelling})", [secret, ""]) == "bad value (…)"


@given(st.text(max_size=2000))
def test_any_words_become_at_most_300_printable_characters(words: str) -> None:
    quoted = quotation(words)
    assert quoted is None or (quoted.isprintable() and 0 < len(quoted) <= 300)
