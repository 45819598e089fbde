"""Who has come in, as the identity provider says it in verified claims (OpenID Connect Core §5.1)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self, TypedDict

Claims = Mapping[str, object]

MOST_GROUPS = 200
"""Groups of a user. Of more than these none is known: Entra ID does not list them either, and they would not fit."""

_LONGEST = 256  # characters of a name
_MOST_TOLD = 2048
"""Bytes of the names of all groups that the MCP server is told: they travel in every request, twice."""


class ClaimNames(NamedTuple):
    """The names of the claims for which identity providers have names of their own."""

    email_verified: str = "email_verified"
    groups: str = "groups"
    roles: str = "roles"
    tenant: str | None = None


class Profile(TypedDict):
    """What the MCP server is told of a user besides the subject."""

    email: str | None
    """The e-mail address, if it is verified."""
    name: str | None
    groups: tuple[str, ...]
    """The groups; empty, too, if they are not known or do not fit."""
    tenant: str | None


class Identity(NamedTuple):
    """A user."""

    issuer: str | None
    """Their identity provider; None where its issuer is not known."""
    subject: str | None
    """Their name there, which never changes and never becomes another user's."""
    email: str | None = None
    email_verified: bool = False
    name: str | None = None
    groups: tuple[str, ...] | None = None
    """The groups; GitHub's organizations as `organization` and its teams as `organization/team`. None if not known."""
    has_too_many_groups: bool = False
    """Whether the groups are not known because there are too many."""
    roles: tuple[str, ...] | None = None
    """The roles; None if not known."""
    tenant: str | None = None

    @classmethod
    def of(cls, claims: Claims, names: ClaimNames, issuer: str | None) -> Self:
        """The user that these claims are about."""
        groups = names_in(find(claims, names.groups))
        overage = _is_overage(claims, names.groups) or len(groups or ()) > MOST_GROUPS
        return cls(
            issuer,
            _text(claims.get("sub")),
            email=_text(claims.get("email")),
            # Cognito's userinfo has the text "true", and Entra's xms_edov may be "1".
            email_verified=claims.get(names.email_verified) in (True, "true", "1"),
            name=(_text(claims.get("name")) or "")[:_LONGEST] or None,
            groups=None if overage else groups,
            has_too_many_groups=overage,
            roles=_few(names_in(find(claims, names.roles))),
            tenant=_text(find(claims, names.tenant)),
        )

    @classmethod
    def opened(cls, content: Sequence[object] | None) -> "Identity | None":
        """The user in a sealed envelope, where lists have taken the place of tuples."""
        if content is None:
            return None
        return cls(*(tuple(one) if isinstance(one, list) else one for one in content))  # type: ignore[arg-type]

    @property
    def content(self) -> list[object]:
        """The user for a sealed envelope, which is JSON."""
        return [[*one] if isinstance(one, tuple) else one for one in self]

    @property
    def profile(self) -> Profile:
        """What the MCP server is told."""
        groups = self.groups or ()
        fits = sum(len(group.encode()) + 1 for group in groups) <= _MOST_TOLD
        return Profile(
            email=self.email if self.email_verified else None,
            name=self.name,
            # All or none: whoever decides by the groups must not miss some of them.
            groups=groups if fits else (),
            tenant=self.tenant,
        )


def lacks(claims: Claims, names: ClaimNames, need: str) -> bool:
    """Whether the claims leave open what a rule needs to know."""
    if need == "email":
        return "email" not in claims or names.email_verified not in claims
    if need == "roles":
        return find(claims, names.roles) is None
    if need == "groups":
        return find(claims, names.groups) is None and not _is_overage(claims, names.groups)
    return find(claims, names.tenant if need == "tenant" else "sub") is None


def find(claims: Claims, name: str | None) -> object:
    """The claim with this name, which may be a path: `realm_access.roles`. None if there is none."""
    if name is None or name in claims:
        # A name may have dots itself: Auth0's are URLs.
        return claims.get(name or "")
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def names_in(value: object) -> tuple[str, ...] | None:
    """The names in a claim: a list, a single one, or the keys of an object, as ZITADEL has it; None without a claim."""
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, list | Mapping):
        return tuple(dict.fromkeys(one for one in value if isinstance(one, str) and one))
    return None


def _few(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None or len(names) > MOST_GROUPS else names


def _is_overage(claims: Claims, name: str) -> bool:
    # https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference#groups-overage-claim
    elsewhere = claims.get("_claim_names")
    return claims.get("hasgroups") is True or (isinstance(elsewhere, Mapping) and name in elsewhere)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
