"""What scopes are asked for and told of in the broker flow; how they travel is in test_broker_token.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.flows.scopes import IdpScopes

names = st.lists(st.sampled_from(["mail", "files", "openid", "offline_access", "admin"]), max_size=5)
scopes = names.map(" ".join)


def idp_scopes(added: str = "openid", dropped: str = "offline_access") -> IdpScopes:
    return IdpScopes(added.split(), dropped.split())


@given(scopes)
def test_all_but_what_is_dropped_is_asked_for_once_and_ours_besides(scope: str) -> None:
    asked = idp_scopes().asked_for(scope)
    assert len(asked) == len(set(asked))
    assert set(asked) == (set(scope.split()) - {"offline_access"}) | {"openid"}


@given(scopes, scopes)
def test_a_client_is_told_of_what_it_asked_for_and_of_nothing_that_is_ours_alone(scope: str, granted: str) -> None:
    told = set((idp_scopes().told(granted, scope, idp_scopes().asked_for(scope)) or "").split())
    assert told <= set(granted.split())
    assert ("openid" in told) == ("openid" in scope.split() and "openid" in granted.split())
    assert set((idp_scopes().consented(granted, scope) or "").split()) == set(granted.split()) & set(scope.split())


@pytest.mark.parametrize(
    ("added", "dropped", "asked"),
    [
        ("", "", ["mail", "openid", "offline_access"]),
        ("", "offline_access", ["mail", "openid"]),
        ("openid", "", ["mail", "openid"]),
        ("profile", "", ["mail", "profile"]),
    ],
)
def test_what_the_metadata_suggests_is_asked_for_where_the_settings_say_nothing(
    added: str, dropped: str, asked: list[str]
) -> None:
    assert idp_scopes(added, dropped).asked_for("mail", ("openid", "offline_access")) == asked


@pytest.mark.parametrize(
    ("asked", "granted", "kept"),
    [
        # Nothing is said, or in other words: what was asked for is what the identity provider understands.
        ("mail openid", None, "mail openid"),
        # oidc-provider does not say that it leaves this one out, and refuses a refresh with it.
        ("mail openid offline_access", None, "mail openid"),
        ("offline_access", "", None),
        ("mcp offline_access", "api://guid/mcp", "mcp offline_access"),
        ("email", "https://www.googleapis.com/auth/userinfo.email openid", "email"),
        # RFC 6749 §6: never more than was granted.
        ("mail files openid offline_access", "mail", "mail openid"),
        ("mail files", "files", "files"),
        ("mail files", "files mail", "mail files"),
        ("", None, None),
        ("", "everything", None),
    ],
)
def test_a_refresh_asks_for_what_was_asked_for_unless_it_was_not_granted(
    asked: str, granted: str | None, kept: str | None
) -> None:
    assert idp_scopes().kept(granted, asked.split()) == kept


@given(scopes, scopes)
def test_no_refresh_gets_more_than_was_granted(scope: str, granted: str) -> None:
    """RFC 6749 §6."""
    exceeds = idp_scopes().exceeds(scope, granted)
    assert exceeds == bool(set(scope.split()) - {"offline_access"} - set(granted.split()))


@pytest.mark.parametrize(
    ("scope", "granted", "exceeds"),
    [("mail", None, True), ("offline_access", None, False), ("mail", "mail files", False), ("mail", "mailbox", True)],
)
def test_what_was_granted_without_names_has_none(scope: str, granted: str | None, exceeds: bool) -> None:
    assert idp_scopes().exceeds(scope, granted) == exceeds
