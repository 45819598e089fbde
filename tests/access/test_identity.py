"""Who a user is, by the claims about them."""

import orjson
import pytest

from seed_oauth.access.identity import MOST_GROUPS, ClaimNames, Claims, Identity, find, lacks, names_in

ISSUER = "https://idp.example"
ENTRA = ClaimNames("xms_edov", tenant="tid")


def user(**claims: object) -> Identity:
    return Identity.of({"sub": "7", **claims}, ClaimNames(), ISSUER)


def test_the_claims_say_who_it_is() -> None:
    told = user(email="ann@example.com", email_verified=True, name="Ann", groups=["a", "b", "a", 7, ""], roles="admin")
    assert told == Identity(ISSUER, "7", "ann@example.com", True, "Ann", ("a", "b"), False, ("admin",))
    assert told.profile == {"email": "ann@example.com", "name": "Ann", "groups": ("a", "b"), "tenant": None}


def test_claims_of_another_form_say_nothing() -> None:
    strange = Identity.of(
        {"sub": 7, "email": ["a@b.example"], "email_verified": 1.5, "name": {}, "groups": 7}, ClaimNames(), None
    )
    assert strange == Identity(None, None)


@pytest.mark.parametrize(
    ("claims", "names", "verified"),
    [
        ({"email_verified": True}, ClaimNames(), True),
        # Cognito's userinfo
        ({"email_verified": "true"}, ClaimNames(), True),
        ({"email_verified": False}, ClaimNames(), False),
        ({"email_verified": "false"}, ClaimNames(), False),
        ({"email_verified": ["true"]}, ClaimNames(), False),
        ({}, ClaimNames(), False),
        # Entra ID: anybody can write any address into a tenant of their own.
        ({"email_verified": True, "upn": "ann@other.example"}, ENTRA, False),
        ({"xms_edov": True}, ENTRA, True),
        ({"xms_edov": "1"}, ENTRA, True),
        ({"xms_edov": "0"}, ENTRA, False),
    ],
)
def test_an_address_is_told_only_if_it_is_verified(claims: Claims, names: ClaimNames, verified: bool) -> None:
    told = Identity.of({"email": "ann@example.com", **claims}, names, ISSUER)
    assert told.email_verified is verified
    assert told.profile["email"] == ("ann@example.com" if verified else None)


@pytest.mark.parametrize(
    "claims",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.example"}}},
        {"hasgroups": True},
        {"groups": [str(number) for number in range(MOST_GROUPS + 1)]},
    ],
)
def test_of_too_many_groups_none_is_known(claims: Claims) -> None:
    told = user(**claims)
    assert (told.groups, told.has_too_many_groups, told.profile["groups"]) == (None, True, ())
    assert not lacks({"sub": "7", **claims}, ClaimNames(), "groups")


def test_groups_whose_names_do_not_fit_are_not_told() -> None:
    told = user(groups=[f"{number:036}" for number in range(60)])
    assert told.groups is not None
    assert (len(told.groups), told.profile["groups"]) == (60, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("https://example.com/groups", ["a"]),
        ("realm_access.roles", ["admin"]),
        ("realm_access.nothing", None),
        ("nothing.roles", None),
        (None, None),
    ],
)
def test_a_claim_is_found_by_its_name_or_its_path(name: str | None, value: object) -> None:
    assert find({"https://example.com/groups": ["a"], "realm_access": {"roles": ["admin"]}}, name) == value


@pytest.mark.parametrize(
    ("claim", "names"),
    [(["a", "b"], ("a", "b")), ("a", ("a",)), ("", ()), ({"a": {"1": "x"}}, ("a",)), ([], ()), (None, None), (7, None)],
)
def test_names_are_read_from_every_form_that_identity_providers_have(claim: object, names: object) -> None:
    assert names_in(claim) == names


@pytest.mark.parametrize(
    ("need", "enough"),
    [
        ("subject", {"sub": "7"}),
        ("email", {"email": "a@b.example", "email_verified": False}),
        ("groups", {"groups": []}),
        ("roles", {"roles": []}),
        ("tenant", {"tid": "t"}),
    ],
)
def test_what_the_claims_leave_open_is_known(need: str, enough: Claims) -> None:
    names = ClaimNames(tenant="tid")
    assert lacks({}, names, need)
    assert not lacks(enough, names, need)


def test_an_identity_comes_out_of_an_envelope_as_it_was() -> None:
    told = user(email="ann@example.com", email_verified=True, groups=["a"], roles=["r"])
    assert Identity.opened(orjson.loads(orjson.dumps(told.content))) == told
    assert Identity.opened(None) is None
