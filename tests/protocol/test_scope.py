"""PROTOCOL M8: which scopes include others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.protocol.scope import ScopeHierarchy

FILES = ScopeHierarchy({"admin": ["files:write", "users"], "files:write": ["files:read"], "a": ["b"], "b": ["a"]})

names = st.lists(st.sampled_from(["admin", "files:write", "files:read", "users", "a", "b", "mail"]), max_size=4)
tables = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3), max_size=6)
letters = st.lists(st.sampled_from("abcdef"), max_size=4)


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        ("files:write", "files:read", True),
        ("admin", "files:read users", True),
        ("files:read", "files:write", False),
        ("files:read", "files:read", True),
        ("", "files:read", False),
        ("", "", True),
        ("mail", "mailbox", False),
        # Two names for the same.
        ("a", "b", True),
        ("b", "a", True),
    ],
)
def test_a_scope_includes_what_the_operator_says_and_what_that_includes(
    granted: str, wanted: str, covered: bool
) -> None:
    assert FILES.covers(granted.split(), wanted.split()) == covered


@pytest.mark.parametrize(
    ("some", "others", "common"),
    [
        ("files:read", "files:write", ["files:read"]),
        ("files:write", "files:read", ["files:read"]),
        ("admin", "users files:read", ["users", "files:read"]),
        ("files:write files:read", "files:write", ["files:write", "files:read"]),
        ("files:read", "mail", []),
        ("mail", "mail mail", ["mail"]),
    ],
)
def test_two_lists_have_in_common_what_both_cover(some: str, others: str, common: list[str]) -> None:
    assert FILES.common(some.split(), others.split()) == common


@given(tables, letters, letters)
def test_what_is_common_is_never_more_than_either_covers(
    table: dict[str, list[str]], some: list[str], others: list[str]
) -> None:
    hierarchy = ScopeHierarchy(table)
    common = hierarchy.common(some, others)
    assert hierarchy.covers(some, common)
    assert hierarchy.covers(others, common)
    assert set(common) == set(hierarchy.common(others, some))
    assert set(common) >= set(some) & set(others)


@given(names, names)
def test_without_a_table_a_scope_is_no_other(some: list[str], others: list[str]) -> None:
    plain = ScopeHierarchy()
    assert plain.expanded(some) == set(some)
    assert set(plain.common(some, others)) == set(some) & set(others)
