"""The lists that say who may come in, of the settings and of each MCP server, and their notation."""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_settings import NoDecode

from seed_oauth.protocol import email_address

RULES: Mapping[str, str] = MappingProxyType(
    {
        "emails": "email",
        "email_domains": "email",
        "groups": "groups",
        "roles": "roles",
        "subjects": "subject",
        "tenants": "tenant",
        "github_orgs": "github_orgs",
        "github_teams": "github_teams",
    }
)
"""The kinds of rules, by the end of their settings' names, and what each needs to know of a user."""

EFFECTS = ("allowed", "denied")
"""What rules do, as the names of their settings begin."""

# https://docs.github.com/en/enterprise-cloud@latest/admin/managing-iam/iam-configuration-reference (logins)
ORG = re.compile(r"[a-z0-9_-]+")
"""The login of an organization at GitHub, in lower case."""
TEAM = re.compile(r"[a-z0-9_-]+/[a-z0-9._-]+")
"""An organization and a team of it."""


def _listed(value: object) -> object:
    """Names of groups have spaces, so commas separate them; where they have commas, too, a JSON list does."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError('must be a JSON list, ["one", "another"], or be separated by commas') from None
    return tuple(one.strip() for one in value.split(",") if one.strip())


def _not_empty(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    # Whoever empties a list may mean everybody or nobody.
    if value is not None and not all(value or [""]):
        raise ValueError("must not be empty: list whom the rule is about, or remove it")
    return value


def _emails(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return _each(value, email_address.canonical, "must be e-mail addresses such as ann@example.com")


def _domains(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return _each(value, email_address.canonical_domain, "must be whole domains such as example.com, without @ and *")


def _orgs(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return _each(value, lambda one: _matching(ORG, one), "must be names of organizations, as in github.com/NAME")


def _teams(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return _each(value, lambda one: _matching(TEAM, one), "must be organization/team, as in github.com/orgs/…/teams/…")


def _matching(pattern: re.Pattern[str], name: str) -> str | None:
    return name.lower() if pattern.fullmatch(name.lower()) else None


def _each(value: tuple[str, ...] | None, form: Callable[[str], str | None], problem: str) -> tuple[str, ...] | None:
    forms = [form(one) for one in value or ()]
    if None in forms:
        raise ValueError(problem)
    return None if value is None else tuple(one for one in forms if one is not None)


Listed = Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_listed), AfterValidator(_not_empty)]
Emails = Annotated[Listed, AfterValidator(_emails)]
Domains = Annotated[Listed, AfterValidator(_domains)]
Orgs = Annotated[Listed, AfterValidator(_orgs)]
Teams = Annotated[Listed, AfterValidator(_teams)]


class AccessLists(BaseModel):
    """Who may come in: a user whom one `allowed_` rule allows and no `denied_` rule denies."""

    allowed_emails: Emails = None
    """E-mail addresses of users who may come in, separated by commas. Only verified addresses count."""
    allowed_email_domains: Domains = None
    """Domains of the e-mail addresses of users who may come in: `example.com`, which does not include its subdomains.
    Only verified addresses count."""
    allowed_groups: Listed = None
    """Groups whose members may come in, by the names or IDs in the claim `IDP_GROUPS_CLAIM`, separated by commas;
    as a JSON list if a name has one."""
    allowed_roles: Listed = None
    """Roles whose holders may come in, by the claim `IDP_ROLES_CLAIM`, such as app roles of Entra ID or realm roles of
    Keycloak."""
    allowed_subjects: Listed = None
    """Users who may come in, by the identity provider's `sub`; at GitHub by the number of the account."""
    allowed_tenants: Listed = None
    """Tenants whose users may come in, by the claim `IDP_TENANT_CLAIM`."""
    allowed_github_orgs: Orgs = None
    """GitHub organizations whose members may come in."""
    allowed_github_teams: Teams = None
    """GitHub teams whose members may come in, written `organization/team`."""
    denied_emails: Emails = None
    """E-mail addresses of users who may not come in, whatever allows them."""
    denied_email_domains: Domains = None
    """Domains of the e-mail addresses of users who may not come in."""
    denied_groups: Listed = None
    """Groups whose members may not come in. Users whose groups are not known may not come in either."""
    denied_roles: Listed = None
    """Roles whose holders may not come in. Users whose roles are not known may not come in either."""
    denied_subjects: Listed = None
    """Users who may not come in, written like `allowed_subjects`."""
    denied_tenants: Listed = None
    """Tenants whose users may not come in."""
    denied_github_orgs: Orgs = None
    """GitHub organizations whose members may not come in."""
    denied_github_teams: Teams = None
    """GitHub teams whose members may not come in."""

    def rules(self, effect: str) -> dict[str, frozenset[str]]:
        """The rules with the effect `allowed` or `denied`, by their kind."""
        lists = {kind: getattr(self, f"{effect}_{kind}") for kind in RULES}
        return {kind: frozenset(listed) for kind, listed in lists.items() if listed is not None}
