"""Who may come in: each rule, and what is said of those who may not."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seed_oauth.access.identity import Identity
from seed_oauth.access.rules import AccessRules
from seed_oauth.settings.access_lists import AccessLists

ANN = Identity(
    "https://idp.example",
    "7",
    email="Ann@Example.com",
    email_verified=True,
    groups=("staff", "Acme", "Acme/Core"),
    roles=("admin",),
    tenant="t-1",
)


def refusal(user: Identity | None, allowed: dict[str, str] | None = None, **denied: str) -> str | None:
    return rules(allowed or {}, denied).refusal(user)


def rules(allowed: Mapping[str, str], denied: Mapping[str, str], resource: str = "") -> AccessRules:
    lists = AccessLists(
        **{f"allowed_{kind}": one for kind, one in allowed.items()},  # type: ignore[arg-type]  # pydantic reads text
        **{f"denied_{kind}": one for kind, one in denied.items()},  # type: ignore[arg-type]
    )
    return AccessRules.of(lists, resource)


MATCHING = {
    "emails": "ann@example.com",
    "email_domains": "example.com",
    "groups": "staff",
    "roles": "admin",
    "subjects": "7",
    "tenants": "t-1",
    "github_orgs": "acme",
    "github_teams": "acme/core",
}


@pytest.mark.parametrize(("kind", "value"), MATCHING.items())
def test_whom_a_rule_allows_comes_in_and_nobody_else(kind: str, value: str) -> None:
    """THREATS 36"""
    assert refusal(ANN, {kind: value}) is None
    told = refusal(ANN, {kind: f"not{value}"})
    assert told is not None
    assert told.startswith(f"ALLOWED_{kind.upper()}: no match")


@pytest.mark.parametrize(("kind", "value"), MATCHING.items())
def test_whom_a_rule_denies_stays_out_whatever_allows_them(kind: str, value: str) -> None:
    assert refusal(ANN, MATCHING, **{kind: value}) == f"DENIED_{kind.upper()}: matches"
    assert refusal(ANN, MATCHING, **{kind: f"not{value}"}) is None


def test_one_rule_that_allows_is_enough_and_without_one_everybody_comes_in() -> None:
    assert refusal(ANN, {"groups": "other", "subjects": "7"}) is None
    assert refusal(ANN) is None
    assert refusal(None) is None
    assert refusal(ANN, None, subjects="8") is None


@pytest.mark.parametrize("user", [None, ANN._replace(subject=None), ANN._replace(subject="")])
def test_whom_the_identity_provider_does_not_name_stays_out(user: Identity | None) -> None:
    assert refusal(user, MATCHING) == "the identity provider does not say who it is"
    assert refusal(user, None, subjects="8") is not None


@pytest.mark.parametrize(
    ("user", "kind", "reason"),
    [
        (ANN._replace(email=None), "emails", "no e-mail address"),
        (ANN._replace(email_verified=False), "emails", "the e-mail address is not verified"),
        (ANN._replace(email_verified=False), "email_domains", "the e-mail address is not verified"),
        (ANN._replace(email="ann@exa mple.com"), "email_domains", "the e-mail address cannot be read"),
        (ANN._replace(groups=None), "groups", "the groups are not known"),
        (ANN._replace(groups=None, has_too_many_groups=True), "groups", "too many groups to be listed"),
        (ANN._replace(groups=None, has_too_many_groups=True), "github_teams", "too many groups to be listed"),
        (ANN._replace(tenant=None), "tenants", "no match"),
        (ANN._replace(groups=()), "github_orgs", "no match, or the organization hides itself from this app"),
    ],
)
def test_the_reason_says_what_was_missing_and_nothing_of_the_user(user: Identity, kind: str, reason: str) -> None:
    told = refusal(user, {kind: MATCHING[kind]})
    assert told == f"ALLOWED_{kind.upper()}: {reason}"
    assert "example" not in told


@pytest.mark.parametrize(
    ("user", "kind"), [(ANN._replace(email=None), "emails"), (ANN._replace(groups=None), "groups")]
)
def test_who_might_be_denied_stays_out_where_that_is_not_known(user: Identity, kind: str) -> None:
    assert refusal(user, {"subjects": "7"}, **{kind: f"not{MATCHING[kind]}"}) is not None


def test_an_address_denies_also_where_it_is_not_verified_and_no_tenant_is_none_of_those_denied() -> None:
    unverified = ANN._replace(email_verified=False)
    assert refusal(unverified, {"subjects": "7"}, emails="ann@example.com") == "DENIED_EMAILS: matches"
    assert refusal(ANN._replace(tenant=None), {"subjects": "7"}, tenants="t-1") is None


def test_names_of_groups_are_compared_as_they_are_and_those_of_github_without_case() -> None:
    assert refusal(ANN, {"groups": "Staff"}) is not None
    assert refusal(ANN, {"github_orgs": "acme"}) is None


@given(st.text(max_size=30), st.booleans())
def test_a_domain_allows_no_address_of_another_domain(address: str, verified: bool) -> None:
    user = ANN._replace(email=address, email_verified=verified)
    if refusal(user, {"email_domains": "example.com"}) is None:
        assert verified
        assert address.rpartition("@")[2].lower() == "example.com"


MAIL = "https://mcp.example.com/mail"


def test_the_log_says_which_server_has_the_rule() -> None:
    at_mail = rules({"groups": "staff"}, {"subjects": "8"}).with_own(rules({"groups": "ops"}, {"tenants": "t-1"}, MAIL))
    assert at_mail.refusal(ANN) == f"DENIED_TENANTS of {MAIL}: matches"
    assert at_mail.refusal(ANN._replace(tenant=None)) == f"ALLOWED_GROUPS of {MAIL}: no match"
    assert at_mail.refusal(ANN._replace(subject="8")) == "DENIED_SUBJECTS: matches"


LISTS = st.sampled_from([{}, {"groups": "a"}, {"groups": "b"}, {"roles": "a"}, {"groups": "a", "roles": "b"}])
BOTH = st.tuples(LISTS, LISTS)
KNOWN = st.sampled_from([None, (), ("a",), ("b",), ("a", "b")])


@settings(max_examples=300)
@given(common=BOTH, own=BOTH, groups=KNOWN, roles=KNOWN)
def test_nobody_may_deny_a_user_and_the_servers_rules_allow_or_the_common_ones_where_it_has_none(
    common: tuple[dict[str, str], dict[str, str]],
    own: tuple[dict[str, str], dict[str, str]],
    groups: tuple[str, ...] | None,
    roles: tuple[str, ...] | None,
) -> None:
    """THREATS 36"""
    user = ANN._replace(groups=groups, roles=roles)
    denies = any(refusal(user, None, **denied) for _, denied in (common, own))
    allows = refusal(user, own[0] or common[0]) is None
    at_server = rules(*common).with_own(rules(*own, MAIL))
    assert (at_server.refusal(user) is None) == (allows and not denies)
