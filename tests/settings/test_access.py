"""Who may come in, as the operator says it: the notation of the rules, and when the server refuses to start."""

import pytest

from seed_oauth import Settings
from seed_oauth.settings import SettingsError
from seed_oauth.settings.access import rule_needs, rule_scopes
from seed_oauth.settings.issued_tokens import token_policy
from tests.settings.test_presets import ISSUERS

OPEN = {
    "google": ISSUERS["google"],
    "github": ISSUERS["github"],
    "auth0": ISSUERS["auth0"],
    **{name: f"https://login.microsoftonline.com/{name}/v2.0" for name in ("common", "organizations", "consumers")},
}


def refused(**given: object) -> str:
    with pytest.raises(SettingsError) as refusal:
        Settings.load(**given)
    return str(refusal.value)


@pytest.mark.parametrize("issuer", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize("preset", ["auto", "none"])
def test_where_everybody_can_have_an_account_the_server_starts_only_if_it_is_told_who_may_come_in(
    issuer: str, preset: str
) -> None:
    """THREATS 36"""
    told = refused(idp_issuer=issuer, idp_preset=preset)
    assert "SEED_OAUTH_ALLOW_EVERYBODY=true" in told
    assert "SEED_OAUTH_ALLOWED_SUBJECTS" in told
    assert ("ALLOWED_GITHUB_ORGS" in told) == (issuer == OPEN["github"] and preset == "auto")
    assert "SEED_OAUTH_ALLOW_EVERYBODY=true" in refused(idp_issuer=issuer, denied_subjects="7")
    assert rule_needs(Settings.load(idp_issuer=issuer, allow_everybody=True, denied_subjects="7")) == {"subject"}
    assert Settings.load(idp_issuer=issuer, allowed_subjects="7").rules("allowed") == {"subjects": {"7"}}


def test_a_named_preset_needs_no_issuer_to_be_open() -> None:
    assert "github has accounts for everybody" in refused(idp_preset="github")


@pytest.mark.parametrize("name", ["entra", "okta", "keycloak", "cognito", "authentik", "zitadel", "b2c"])
def test_where_accounts_are_given_no_rule_is_needed(name: str) -> None:
    assert rule_needs(Settings(idp_issuer=ISSUERS[name])) == frozenset()


@pytest.mark.parametrize(
    ("setting", "text", "listed"),
    [
        ("allowed_emails", "Ann@Example.com, bob@bücher.example",
         {"ann@example.com", "bob@xn--bcher-kva.example"}),
        ("allowed_email_domains", "Example.com,BÜCHER.example", {"example.com", "xn--bcher-kva.example"}),
        ("allowed_groups", "Sales Team, /staff", {"Sales Team", "/staff"}),
        ("allowed_groups", '["Sales, EMEA", "b"]', {"Sales, EMEA", "b"}),
        ("allowed_subjects", "7", {"7"}),
        ("denied_groups", "x", {"x"}),
    ],
)  # fmt: skip
def test_lists_are_separated_by_commas_or_are_json(
    setting: str, text: str, listed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SEED_OAUTH_{setting.upper()}", text)
    settings = Settings.load()
    effect, _, kind = setting.partition("_")
    assert settings.rules(effect) == {kind: listed}
    monkeypatch.undo()
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load().rules(effect) == {kind: listed}


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("allowed_emails", "", "must not be empty"),
        ("allowed_groups", " , ", "must not be empty"),
        ("denied_subjects", "[]", "must not be empty"),
        ("allowed_groups", '["a", ""]', "must not be empty"),
        ("allowed_groups", '["a"', "must be a JSON list"),
        ("allowed_emails", "ann", "must be e-mail addresses"),
        ("allowed_email_domains", "@example.com", "must be whole domains"),
        ("allowed_email_domains", "*.example.com", "must be whole domains"),
        ("denied_email_domains", "ann@example.com", "must be whole domains"),
        ("allowed_github_orgs", "github.com/acme", "must be names of organizations"),
        ("allowed_github_teams", "core", "must be organization/team"),
    ],
)
def test_a_list_that_means_something_else_than_its_author_thinks_is_refused(
    setting: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SEED_OAUTH_{setting.upper()}", value)
    assert f"SEED_OAUTH_{setting.upper()} {told}" in refused(idp_preset="github", allow_everybody=True)


@pytest.mark.parametrize(
    ("issuer", "rule", "told"),
    [
        ("google", {"allowed_groups": "a"}, "google does not tell the groups of its users"),
        ("google", {"allowed_github_orgs": "a"}, "only the preset github knows it, and the preset is google"),
        ("keycloak", {"denied_github_teams": "a/b"}, "only the preset github knows it, and the preset is keycloak"),
        ("keycloak", {"allowed_tenants": "a"}, "set SEED_OAUTH_IDP_TENANT_CLAIM"),
        ("github", {"allowed_groups": "a"}, "github does not tell the groups of its users"),
        ("google", {"denied_roles": "a"}, "google does not tell the roles of its users"),
        ("b2c", {"allowed_emails": "a@b.example"}, "b2c does not tell the email of its users"),
    ],
)
def test_a_rule_that_the_identity_provider_cannot_serve_is_refused(
    issuer: str, rule: dict[str, str], told: str
) -> None:
    name = next(iter(rule)).upper()
    given = {**rule, **({} if "allowed" in next(iter(rule)) else {"allow_everybody": True})}
    assert f"SEED_OAUTH_{name} cannot be used: {told}" in refused(idp_issuer=ISSUERS[issuer], **given)


def test_everybody_and_somebody_contradict_each_other_and_the_relay_flow_has_no_rules() -> None:
    assert "contradict each other" in refused(allow_everybody=True, allowed_subjects="7")
    assert "need SEED_OAUTH_FLOW=broker" in refused(flow="relay", allowed_subjects="7")


def test_the_tokens_of_github_enterprise_server_are_not_sent_to_github() -> None:
    there = {"idp_preset": "github", "allow_everybody": True, "idp_authorization_url": "https://git.example/authorize"}
    told = refused(**there, idp_token_url="https://git.example/token")
    assert "https://HOST/api/v3/user" in told
    own = "https://git.example/api/v3/user"
    settings = Settings.load(**there, idp_token_url="https://git.example/token", idp_userinfo_url=own)
    assert settings.idp_userinfo_url == own


@pytest.mark.parametrize(
    ("issuer", "rule", "scopes"),
    [
        ("keycloak", {"allowed_subjects": "7"}, ("openid",)),
        ("keycloak", {"allowed_emails": "a@b.example"}, ("email", "openid")),
        ("okta", {"allowed_groups": "a"}, ("groups", "openid")),
        ("authentik", {"allowed_groups": "a"}, ("profile", "openid")),
        ("zitadel", {"allowed_tenants": "a"}, ("openid", "urn:zitadel:iam:user:resourceowner")),
        ("github", {"allowed_subjects": "7"}, ()),
        ("github", {"allowed_emails": "a@b.example"}, ("user:email",)),
        ("github", {"allowed_github_orgs": "a", "denied_github_teams": "a/b"}, ("read:org",)),
        ("keycloak", {}, ()),
    ],
)
def test_the_identity_provider_is_asked_for_the_scopes_that_the_rules_need(
    issuer: str, rule: dict[str, str], scopes: tuple[str, ...]
) -> None:
    assert rule_scopes(Settings.load(idp_issuer=ISSUERS[issuer], **rule)) == scopes


ADMIN = {"group_scopes": {"ops": ["mcp:admin"]}, "tool_scopes": {"mcp:admin": ["restart"]}}


def test_the_scopes_of_groups_come_from_the_environment_and_need_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_GROUP_SCOPES", '{"ops": ["mcp:admin"], "Sales, EMEA": ["crm"]}')
    monkeypatch.setenv("SEED_OAUTH_SCOPES", "mcp:admin crm")
    settings = Settings.load(idp_issuer=ISSUERS["keycloak"])
    assert settings.group_scopes == {"ops": ("mcp:admin",), "Sales, EMEA": ("crm",)}
    assert rule_needs(settings) == {"subject", "groups"}


def test_at_github_the_groups_are_organizations_and_teams() -> None:
    given = {"idp_preset": "github", "allow_everybody": True, "scopes": "mcp:admin"}
    for group, need in (("acme", "github_orgs"), ("acme/ops", "github_teams")):
        settings = Settings.load(**given, group_scopes={group: ["mcp:admin"]})
        assert rule_needs(settings) == {"subject", need}
        assert rule_scopes(settings) == ("read:org",)
    assert "organization/team, in lower case" in refused(**given, group_scopes={"Acme/ops": ["mcp:admin"]})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"group_scopes": {"ops": []}}, "must have a list of scopes for each group"),
        ({"group_scopes": {" ": ["mcp:admin"]}}, "must have a list of scopes for each group"),
        ({"group_scopes": {"ops": ["two words"]}}, "must have a list of scopes for each group"),
        ({"access_tokens": "idp"}, "cannot be used: SEED_OAUTH_ACCESS_TOKENS=idp gives clients tokens that cannot"),
        ({"idp_scopes": "mcp:admin"}, "cannot be used: it must not list mcp:admin, a scope of OpenID Connect"),
        ({"idp_dropped_scopes": "mcp:admin"}, "cannot be used: it must not list mcp:admin, a scope of OpenID Connect"),
        ({"group_scopes": {"ops": ["openid"]}}, "cannot be used: it must not list openid"),
        ({"scope_hierarchy": {"super": ["root"], "root": ["mcp:admin"]}},
         "cannot be used: by SEED_OAUTH_SCOPE_HIERARCHY, root includes one of its scopes: give root to groups, too"),
        ({"group_scopes": {"ops": ["mcp:admn"]}}, "cannot be used: no other setting names mcp:admn"),
        ({"idp_issuer": ISSUERS["google"], "allow_everybody": True}, "cannot be used: google does not tell the groups"),
    ],
)  # fmt: skip
def test_scopes_of_groups_that_would_not_do_what_their_author_thinks_are_refused(
    given: dict[str, object], told: str
) -> None:
    """THREATS 36"""
    assert f"SEED_OAUTH_GROUP_SCOPES {told}" in refused(**{**ADMIN, **given})


def test_the_relay_flow_has_no_scopes_of_groups() -> None:
    assert "SEED_OAUTH_GROUP_SCOPES need SEED_OAUTH_FLOW=broker" in refused(flow="relay", **ADMIN)


DOOR = {"issuer": "https://door.example", "secret_keys": "the-key-that-seals-of-random-characters"}


def with_servers(*entries: dict[str, object]) -> dict[str, object]:
    servers = [
        {"resource": f"https://door.example/{n}", "url": "http://mcp/", **entry} for n, entry in enumerate(entries)
    ]
    return {**DOOR, "access_tokens": "own", "mcp_servers": servers}


def test_an_mcp_servers_rules_are_written_like_the_common_ones_and_another_process_has_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = with_servers({"allowed_emails": "Ann@Example.com", "denied_groups": ["Sales, EMEA", "b"]}, {})
    settings = Settings.load(**given)
    server, other = settings.mcp_servers
    assert server.rules("allowed") == {"emails": {"ann@example.com"}}
    assert server.rules("denied") == {"groups": {"Sales, EMEA", "b"}}
    assert not other.rules("allowed") | other.rules("denied") | settings.rules("allowed") | settings.rules("denied")
    assert rule_needs(settings) == {"subject", "email", "groups"}
    assert rule_scopes(settings) == ("email", "openid")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load().mcp_servers == settings.mcp_servers


@pytest.mark.parametrize("issuer", OPEN.values(), ids=OPEN)
def test_where_everybody_can_have_an_account_each_mcp_server_needs_a_rule_or_a_common_one(issuer: str) -> None:
    """THREATS 36"""
    there = {"idp_issuer": issuer, "idp_client_id": "proxy"}
    closed: dict[str, object] = {"allowed_subjects": "7"}
    told = refused(**there, **with_servers(closed, {}))
    assert "everybody could come in to https://door.example/1: say who may" in told
    assert "everybody could come in to https://door.example/1" in refused(
        **there, **with_servers(closed, {"denied_subjects": "7"})
    )
    also = "https://door.example/also"
    assert f"everybody could come in to {also}" in refused(**there, **with_servers(closed), resources=also)
    for enough in (with_servers(closed, closed), {**with_servers(closed, {}), "allowed_subjects": "8"},
                   {**with_servers(closed, {}), "allow_everybody": True}):  # fmt: skip
        assert Settings.load(**there, **enough).mcp_servers[0].rules("allowed") == {"subjects": {"7"}}


@pytest.mark.parametrize(
    ("changes", "entry", "told"),
    [
        ({}, {"allowed_groups": []}, "SEED_OAUTH_MCP_SERVERS[1] allowed_groups must not be empty"),
        ({}, {"allowed_email_domains": "@x.example"}, "SEED_OAUTH_MCP_SERVERS[1] allowed_email_domains must be whole"),
        ({}, {"allowed_group": ["a"]}, "SEED_OAUTH_MCP_SERVERS[1] allowed_group is not known here"),
        ({}, {"denied_github_orgs": ["a"]}, "SEED_OAUTH_MCP_SERVERS[1] denied_github_orgs cannot be used: only the"),
        ({"idp_issuer": ISSUERS["google"], "allow_everybody": True}, {"allowed_groups": ["a"]},
         "SEED_OAUTH_MCP_SERVERS[1] allowed_groups cannot be used: google does not tell the groups"),
        ({"flow": "relay", "idp_issuer": ISSUERS["keycloak"]}, {"denied_subjects": ["7"]},
         "need SEED_OAUTH_FLOW=broker"),
        ({"access_tokens": "idp", "idp_issuer": ISSUERS["keycloak"]}, {"denied_subjects": ["7"]},
         "SEED_OAUTH_ACCESS_TOKENS=idp gives clients tokens that several MCP servers may accept"),
    ],
)  # fmt: skip
def test_rules_of_an_mcp_server_that_would_not_do_what_their_author_thinks_are_refused(
    changes: dict[str, object], entry: dict[str, object], told: str
) -> None:
    assert told in refused(**{**with_servers({}, entry), **changes})


@pytest.mark.parametrize(
    ("set_to", "entry", "policy"),
    [("auto", {}, "auto"), ("idp", {}, "idp"), ("auto", {"denied_subjects": "7"}, "own"),
     ("own", {"denied_subjects": "7"}, "own"), ("jwt", {"denied_subjects": "7"}, "jwt")],
)  # fmt: skip
def test_where_a_server_has_rules_the_access_tokens_are_those_of_this_server(
    set_to: str, entry: dict[str, object], policy: str
) -> None:
    """THREATS 36"""
    given = {**with_servers(entry), "access_tokens": set_to, "idp_issuer": ISSUERS["keycloak"]}
    assert token_policy(Settings.load(**given)) == policy
