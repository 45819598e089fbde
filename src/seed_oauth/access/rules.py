"""The rules that say who may come in."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from seed_oauth.access.identity import Identity
from seed_oauth.protocol import email_address

_HIDDEN = ", or the organization hides itself from this app"

Rules = Mapping[str, AbstractSet[str]]
"""Whom each rule is about, by its kind (`seed_oauth.settings.access.RULES`)."""


class UnknownError(Exception):
    """What a rule is about is not known of a user; the message says what."""


class AccessRules:
    """A user comes in whom no rule denies and, if there are rules that allow, one of these allows."""

    def __init__(self, allowed: Rules, denied: Rules) -> None:
        self._allowed = allowed
        self._denied = denied

    def refusal(self, user: Identity | None) -> str | None:
        """Why a user may not come in: each rule with its reason, and nothing of the user; None if they may."""
        if not self._allowed and not self._denied:
            return None
        if user is None or not user.subject:
            return "the identity provider does not say who it is"
        for kind, denied in self._denied.items():
            try:
                if _known(kind, user, verified=False) & denied:
                    return f"DENIED_{kind.upper()}: matches"
            except UnknownError as unknown:
                return f"DENIED_{kind.upper()}: {unknown}"
        reasons = []
        for kind, allowed in self._allowed.items():
            try:
                if _known(kind, user, verified=True) & allowed:
                    return None
                reasons.append(f"ALLOWED_{kind.upper()}: no match{_HIDDEN if kind.startswith('github') else ''}")
            except UnknownError as unknown:
                reasons.append(f"ALLOWED_{kind.upper()}: {unknown}")
        return "; ".join(reasons) or None


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
