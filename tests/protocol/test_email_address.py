"""E-mail addresses and domains in the form in which rules compare them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.protocol.email_address import canonical, canonical_domain, domain_of


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann@Example.COM", "ann@example.com"),
        ("ann+mcp@example.com", "ann+mcp@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"),
        ("ann@bu\u0308cher.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@\uff45xample.com", "ann@example.com"),
        ("jose\u0301@example.com", "jos\u00e9@example.com"),
        ('"a@example.com"@evil.example', '"a@example.com"@evil.example'),
    ],
)
def test_case_and_spelling_do_not_matter(address: str, form: str) -> None:
    assert canonical(address) == form


@pytest.mark.parametrize(
    ("one", "another"),
    [
        # Letters that lower case would make the same.
        ("\u212aim@example.com", "kim@example.com"),
        ("ann@faß.example", "ann@fass.example"),
        ("ann@\u0435xample.com", "ann@example.com"),
        ("ann@notexample.com", "ann@example.com"),
        ("ann@sub.example.com", "ann@example.com"),
        ("ann@example.com.", "ann@example.com"),
        ("ann@example.com.evil.example", "ann@example.com"),
    ],
)
def test_what_only_looks_alike_stays_different(one: str, another: str) -> None:
    assert canonical(one) != canonical(another)


@pytest.mark.parametrize(
    "text",
    ["", "ann", "@example.com", "ann@", "ann@exa mple.com", "ann@example..com", "ann@-a.example", "a b@example.com",
     "ann\n@example.com", "ann@example.com\n", "ann@exa_mple.com", f"{'a' * 250}@example.com", "ann@*.example.com"],
)  # fmt: skip
def test_what_is_no_address_has_no_form(text: str) -> None:
    assert canonical(text) is None


def test_the_domain_of_an_address_is_what_follows_the_last_at() -> None:
    assert domain_of('"a@example.com"@evil.example') == "evil.example"


@given(st.text(max_size=80))
def test_a_form_is_its_own_form(text: str) -> None:
    for form in (canonical, canonical_domain):
        found = form(text)
        assert found is None or form(found) == found
