"""The rules that say who may come in."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Self

from seed_oauth.access.identity import Identity
from seed_oauth.protocol import email_address
from seed_oauth.protocol.resource import canonical
from seed_oauth.settings import Settings
from seed_oauth.settings.access_lists import EFFECTS, AccessLists

_HIDDEN = ", or the organization hides itself from this app"


class Rule(NamedTuple):
    """A rule about some users."""

    name: str
    """What the log calls it."""
    kind: str
    """One of `seed_oauth.settings.access_lists.RULES`."""
    listed: AbstractSet[str]
    """Whom it is about."""


class UnknownError(Exception):
    """What a rule is about is not known of a user; the message says what."""


class AccessRules(NamedTuple):
    """A user comes in whom no rule denies and, if there are rules that allow, one of these allows."""

    allowed: Sequence[Rule]
    denied: Sequence[Rule]

    @classmethod
    def of(cls, lists: AccessLists, resource: str = "") -> Self:
        """Those in the settings, or in the entry of the MCP server at `resource`."""
        place = f" of {resource}" if resource else ""
        effects = (
            [Rule(f"{effect}_{kind}".upper() + place, kind, listed) for kind, listed in lists.rules(effect).items()]
            for effect in EFFECTS
        )
        return cls(*effects)

    def with_own(self, own: Self) -> Self:
        """Those at an MCP server that has its `own`: its rules that allow replace these, its others are added."""
        return self._replace(allowed=own.allowed or self.allowed, denied=[*self.denied, *own.denied])

    def refusal(self, user: Identity | None) -> str | None:
        """Why a user may not come in: each rule with its reason, and nothing of the user; None if they may."""
        if not self.allowed and not self.denied:
            return None
        if user is None or not user.subject:
            return "the identity provider does not say who it is"
        for name, kind, denied in self.denied:
            try:
                if _known(kind, user, verified=False) & denied:
                    return f"{name}: matches"
            except UnknownError as unknown:
                return f"{name}: {unknown}"
        reasons = []
        for name, kind, allowed in self.allowed:
            try:
                if _known(kind, user, verified=True) & allowed:
                    return None
                reasons.append(f"{name}: no match{_HIDDEN if kind.startswith('github') else ''}")
            except UnknownError as unknown:
                reasons.append(f"{name}: {unknown}")
        return "; ".join(reasons) or None


class ResourceRules:
    """The rules at each protected resource."""

    def __init__(self, rules: Mapping[str, AccessRules]) -> None:
        """`rules` are those at each of them, by its URL."""
        self._rules = {canonical(resource): at for resource, at in rules.items()}

    def refusal(self, user: Identity | None, resource: str | None) -> str | None:
        """Why a user may not come in to `resource`, or to any where that is None; None if they may."""
        if resource is not None:
            rules = self._rules.get(canonical(resource))
            # The operator may have removed it since the login began.
            return "the resource is not protected here any more" if rules is None else rules.refusal(user)
        reasons = [rules.refusal(user) or "" for rules in self._rules.values()]
        return "; ".join(dict.fromkeys(reasons)) if all(reasons) else None


def rules_of(settings: Settings) -> ResourceRules:
    """The rules in the settings."""
    rules = dict.fromkeys(settings.protected_resources, common := AccessRules.of(settings))
    for server in settings.mcp_servers:
        rules[server.resource] = common.with_own(AccessRules.of(server, server.resource))
    return ResourceRules(rules)


def _known(kind: str, user: Identity, *, verified: bool) -> AbstractSet[str]:
    """What a rule of this kind is compared with.

    Raises:
        UnknownError: the identity provider does not say it.
    """
    if kind in {"emails", "email_domains"}:
        address = _email(user, verified=verified)
        return {address if kind == "emails" else email_address.domain_of(address)}
    if kind == "subjects":
        return {user.subject or ""}
    if kind == "tenants":
        # A user without one, such as one with a personal Google account, belongs to none.
        return {user.tenant} if user.tenant else set()
    if kind == "roles":
        if user.roles is None:
            raise UnknownError("the roles are not known")
        return set(user.roles)
    if user.groups is None:
        raise UnknownError("too many groups to be listed" if user.has_too_many_groups else "the groups are not known")
    return {group.lower() for group in user.groups} if kind.startswith("github") else set(user.groups)


def _email(user: Identity, *, verified: bool) -> str:
    if user.email is None:
        raise UnknownError("no e-mail address")
    if verified and not user.email_verified:
        # Whoever can write any address into their profile could be anybody.
        raise UnknownError("the e-mail address is not verified")
    address = email_address.canonical(user.email)
    if address is None:
        raise UnknownError("the e-mail address cannot be read")
    return address
