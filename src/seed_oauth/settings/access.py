"""The settings that say who may come in, and their checks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_settings import BaseSettings

from seed_oauth.protocol.scope import ScopeHierarchy, is_valid
from seed_oauth.settings import presets, validators
from seed_oauth.settings.access_lists import EFFECTS, ORG, RULES, TEAM, AccessLists
from seed_oauth.settings.errors import PREFIX

if TYPE_CHECKING:
    from seed_oauth.settings import Settings

_GITHUB = frozenset({"github_orgs", "github_teams"})

_OPENID = frozenset({"openid", "profile", "email", "offline_access"})


def _group_scopes(table: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    scopes = [scope for listed in table.values() for scope in listed]
    if not all(group.strip() and listed for group, listed in table.items()) or not all(
        is_valid(scope) and " " not in scope for scope in scopes
    ):
        raise ValueError('must have a list of scopes for each group: {"ops": ["mcp:admin"]}')
    return table


class ClaimSettings(BaseSettings):
    """What the identity provider says of users, and the scopes that this brings them."""

    group_scopes: Annotated[dict[str, tuple[str, ...]], AfterValidator(_group_scopes)] = {}
    """Scopes that only members of a group are granted, for example `{"ops": ["mcp:admin"]}` (JSON). The identity
    provider is not asked for them, and clients get the access tokens of this server."""
    idp_groups_claim: str = "groups"
    """The claim with the groups of a user: a list of names, or an object whose keys are the names."""
    idp_roles_claim: str = "roles"
    """The claim with the roles of a user; `realm_access.roles` is the claim `roles` inside `realm_access`."""
    idp_tenant_claim: validators.OptionalText = None
    """The claim with the tenant of a user; the presets `entra` (`tid`), `google` (`hd`), `auth0` (`org_id`) and
    `zitadel` set it."""
    idp_userinfo_url: validators.OptionalUrl = None
    """Userinfo endpoint of the identity provider (OpenID Connect Core §5.3), for what its ID token does not say; by
    default from its metadata. With the preset `github` the URL of `/user` in its API."""


class AccessSettings(AccessLists, ClaimSettings):
    """Who may come in."""

    allow_everybody: bool = False
    """Whether everybody with an account at the identity provider may come in. Must be set, or an `ALLOWED_` rule, for
    the presets `google`, `github` and `auth0`, and for `entra` with more than one tenant: there, everybody can have an
    account."""


def rule_needs(settings: "Settings") -> frozenset[str]:
    """What the rules and the scopes of groups need to know of a user; empty where there are none."""
    needs = {RULES[kind] for _, kind in _named_rules(settings)}
    for group in settings.group_scopes:
        team_or_org = "github_teams" if "/" in group else "github_orgs"
        needs.add(team_or_org if is_github(settings) else "groups")
    return frozenset({"subject", *needs}) if needs else frozenset()


def is_github(settings: "Settings") -> bool:
    """Whether groups are GitHub's organizations and teams."""
    return settings.preset is not None and settings.preset.name == "github"


def rule_scopes(settings: "Settings") -> tuple[str, ...]:
    """The scopes that the identity provider has to be asked for because a rule needs them."""
    scopes = settings.preset.rule_scopes if settings.preset else presets.RULE_SCOPES
    return tuple(dict.fromkeys(scope for need in sorted(rule_needs(settings)) for scope in scopes.get(need, ())))


def differs_by_server(settings: "Settings") -> bool:
    """Whether an MCP server has a rule of its own."""
    return any(server.rules(effect) for server in settings.mcp_servers for effect in EFFECTS)


def check(settings: "Settings") -> None:
    """Refuse rules that nobody could pass or everybody would, and a door that is open without saying so.

    Raises:
        ValueError: names the setting to change.
    """
    if settings.allow_everybody and settings.rules("allowed"):
        raise ValueError(f"{PREFIX}ALLOW_EVERYBODY and an {PREFIX}ALLOWED_ rule contradict each other: remove one")
    if rule_needs(settings) and settings.flow == "relay":
        raise ValueError(
            f"{PREFIX}ALLOWED_ and {PREFIX}DENIED_ rules and {PREFIX}GROUP_SCOPES need {PREFIX}FLOW=broker: in the "
            "relay flow the identity provider sends its code to the client itself"
        )
    if _is_open_to_anybody(settings) and (resource := _open_resource(settings)):
        raise ValueError(
            f"{settings.idp_issuer or settings.idp_preset} has accounts for everybody, and everybody could come in to "
            f"{resource}: say who may, with {', '.join(_possible(settings))}, or set {PREFIX}ALLOW_EVERYBODY=true"
        )
    if settings.access_tokens == "idp" and differs_by_server(settings):
        # Its audience may be several of them, such as with an audience mapper of Keycloak.
        raise ValueError(
            f"{PREFIX}ACCESS_TOKENS=idp gives clients tokens that several MCP servers may accept, and "
            f"{PREFIX}MCP_SERVERS has rules that say who may come in to one: remove it"
        )
    if is_github(settings) and _sends_token_elsewhere(settings):
        raise ValueError(
            f"{PREFIX}IDP_USERINFO_URL is that of github.com, which must not be sent the tokens of another host: set "
            "it to the API of your GitHub Enterprise Server, https://HOST/api/v3/user"
        )
    for name, kind in _named_rules(settings):
        if problem := _impossible(settings, RULES[kind]):
            raise ValueError(f"{PREFIX}{name} cannot be used: {problem}")
    if settings.group_scopes and (problem := _misuse_of_groups(settings)):
        raise ValueError(f"{PREFIX}GROUP_SCOPES cannot be used: {problem}")


def _named_rules(settings: "Settings") -> Iterator[tuple[str, str]]:
    """The name of each rule, as it is set, and its kind."""
    for effect in EFFECTS:
        for kind in settings.rules(effect):
            yield f"{effect}_{kind}".upper(), kind
        for number, server in enumerate(settings.mcp_servers):
            for kind in server.rules(effect):
                yield f"MCP_SERVERS[{number}] {effect}_{kind}", kind


def _open_resource(settings: "Settings") -> str | None:
    """A protected resource for which nothing says who may come in."""
    if settings.allow_everybody or settings.rules("allowed"):
        return None
    closed = {server.resource for server in settings.mcp_servers if server.rules("allowed")}
    return next((resource for resource in settings.protected_resources if resource not in closed), None)


def _misuse_of_groups(settings: "Settings") -> str | None:
    """What is wrong with the scopes of groups; None if nothing is."""
    if settings.access_tokens == "idp":
        return f"{PREFIX}ACCESS_TOKENS=idp gives clients tokens that cannot have its scopes: remove it"
    if not is_github(settings) and (problem := _impossible(settings, "groups")):
        return problem
    if is_github(settings) and not all(ORG.fullmatch(one) or TEAM.fullmatch(one) for one in settings.group_scopes):
        return "at GitHub a group is an organization or organization/team, in lower case"
    scopes = {scope for listed in settings.group_scopes.values() for scope in listed}
    asked = {*settings.idp_scopes, *settings.idp_dropped_scopes, *rule_scopes(settings), *_OPENID}
    if ours := sorted(scopes & asked):
        return (
            f"it must not list {', '.join(ours)}, a scope of OpenID Connect, of the access rules, of "
            f"{PREFIX}IDP_SCOPES or of {PREFIX}IDP_DROPPED_SCOPES"
        )
    hierarchy = ScopeHierarchy(settings.scope_hierarchy)
    if over := sorted(one for one in {*settings.scope_hierarchy} - scopes if hierarchy.expanded([one]) & scopes):
        # Whoever gets it from the identity provider would be in no group.
        return f"by {PREFIX}SCOPE_HIERARCHY, {over[0]} includes one of its scopes: give {over[0]} to groups, too"
    tables = [settings.scope_rules(resource) for resource in settings.protected_resources]
    used = {*settings.advertised_scopes, *settings.scope_descriptions}
    used |= {scope for rules in tables for scope in (*rules.tools, *rules.methods)}
    if unused := sorted(scopes - hierarchy.expanded(used | {*settings.scope_hierarchy})):
        # A misspelt scope would leave the right one to the identity provider.
        return f"no other setting names {', '.join(unused)}: add it to {PREFIX}SCOPES, or correct the spelling"
    return None


def _is_open_to_anybody(settings: "Settings") -> bool:
    issuer = settings.idp_issuer or ""
    # Also where presets are switched off: who has an account there does not depend on it.
    known = settings.preset or presets.find("auto", issuer)
    return known is not None and known.is_open_at(issuer)


def _sends_token_elsewhere(settings: "Settings") -> bool:
    hosts = [urlsplit(url or "").hostname for url in (settings.idp_token_url, settings.idp_userinfo_url)]
    return hosts[0] != "github.com" and hosts[1] == "api.github.com"


def _impossible(settings: "Settings", need: str) -> str | None:
    """Why the identity provider can never say what a rule needs; None if it may."""
    preset = settings.preset
    name = preset.name if preset else "none"
    if need in _GITHUB:
        return None if name == "github" else f"only the preset github knows it, and the preset is {name}"
    if need == "tenant" and settings.idp_tenant_claim is None:
        return f"set {PREFIX}IDP_TENANT_CLAIM to the claim that has the tenant"
    if preset and need in preset.lacks:
        return f"{name} does not tell the {need} of its users"
    return None


def _possible(settings: "Settings") -> list[str]:
    return [f"{PREFIX}ALLOWED_{kind.upper()}" for kind, need in RULES.items() if _impossible(settings, need) is None]
