"""The scopes of a login: what the identity provider is asked for, what it grants, and what the client is told."""

from collections.abc import Iterable, Sequence

from seed_oauth.access.group_scopes import GroupScopes
from seed_oauth.access.identity import Identity
from seed_oauth.flows.transaction import Grant
from seed_oauth.http import log_fields
from seed_oauth.protocol.scope import ScopeHierarchy
from seed_oauth.settings import Settings
from seed_oauth.settings.access import is_github, rule_scopes

# Entra ID and others leave them out of the `scope` of a token response, although they were granted.
_UNMENTIONED = frozenset({"openid", "profile", "email"})


class IdpScopes:
    """The two scopes of a login in the broker flow: what the client asks for, and what this server asks for."""

    def __init__(
        self,
        added: Sequence[str] = (),
        dropped: Iterable[str] = (),
        hierarchy: ScopeHierarchy | None = None,
        *,
        needed: Sequence[str] = (),
        by_group: GroupScopes | None = None,
    ) -> None:
        """`added` are requested in every login, by default those that the metadata suggests; `dropped` are never.

        `needed` are requested besides, whatever else is: without them nobody would know whether the user may come in.
        The scopes of `by_group` are not requested: this server grants them.
        """
        self._needed = tuple(needed)
        self._added = tuple(added)
        self._dropped = frozenset(dropped)
        self._hierarchy = hierarchy or ScopeHierarchy()
        self._by_group = by_group or GroupScopes()
        self._never_asked = self._dropped | self._by_group.scopes

    def asked_for(self, scope: str | None, defaults: Sequence[str] = ()) -> list[str]:
        """What to ask the identity provider for when a client asks for `scope`.

        MCP clients ask for everything that is advertised and for `offline_access` as well, and an identity provider
        that does not know one of them refuses the whole login.
        """
        wanted = [*(scope or "").split(), *(() if self._added else defaults)]
        kept = [one for one in wanted if one not in self._never_asked]
        return list(dict.fromkeys([*kept, *self._added, *self._needed]))

    def told(self, idp_scope: object, scope: str | None, asked: Sequence[str]) -> str | None:
        """The scope in the client's token response (RFC 6749 §5.1), None when there is nothing to tell.

        `idp_scope` is what the identity provider granted of what it was `asked`, and `scope` what the client asked for.
        Scopes that only this server asked for are left out.
        """
        granted = idp_scope.split() if isinstance(idp_scope, str) else asked
        ours = frozenset(asked) - frozenset((scope or "").split())
        return _joined(one for one in granted if one not in ours)

    def consented(self, granted: str | None, *shown: str | None) -> str | None:
        """What of `granted` is in every list of scopes in `shown`, None for nothing by name.

        The identity provider may grant more than the user was shown, such as what another client was granted before. A
        list that is None limits nothing: the page then says that the client named no scopes.
        """
        scopes = (granted or "").split()
        for one in shown:
            if one is not None:
                scopes = self._hierarchy.common(scopes, one.split())
        return _joined(scopes)

    def with_groups(self, scope: str | None, asked: str | None, user: Identity | None) -> str | None:
        """`scope`, with those scopes of the user's groups that the client has `asked` for.

        What the identity provider says of the scopes of groups does not count.
        """
        if self._by_group.scopes and (user is None or user.groups is None):
            # Otherwise an operator whose identity provider sends no groups would not find out.
            log_fields.note(groups="unknown")
        brought = self._by_group.of(user)
        granted = [one for one in (scope or "").split() if one not in self._by_group.scopes]
        return _joined([*granted, *(one for one in dict.fromkeys((asked or "").split()) if one in brought)])

    def kept(self, idp_scope: object, asked: Sequence[str]) -> str | None:
        """What to ask for when the grant is refreshed: what was asked for, less what was evidently not granted.

        Entra ID refuses a refresh without scope (AADSTS90009), and RFC 6749 §6 one for more than was granted. Where the
        response has other names than the request, those of the request are the ones that the identity provider takes.
        """
        granted = frozenset(idp_scope.split()) if isinstance(idp_scope, str) else frozenset[str]()
        if not granted:
            # RFC 6749 §5.1: what was asked for. But some identity providers do not grant offline_access (OpenID Connect
            # Core §11), without a word, and then refuse it here.
            return _joined(one for one in asked if one != "offline_access")
        if granted <= frozenset(asked):
            return _joined(one for one in asked if one in granted | _UNMENTIONED)
        return _joined(asked)

    def exceeds(self, scope: str, *granted: str | None) -> bool:
        """Whether a refresh asks for more than was granted (RFC 6749 §6), by any of its names."""
        known = {name for one in granted for name in (one or "").split()}
        return not self._hierarchy.covers(known, set(scope.split()) - self._dropped)

    def refreshed(self, scope: str | None, grant: Grant, defaults: Sequence[str]) -> tuple[str | None, list[str]]:
        """What a refresh narrows the grant to, None for nothing, and what the identity provider is asked for.

        A client that repeats what it asked for narrows nothing, whatever the identity provider called it.
        """
        kept = (grant.idp_scope or "").split()
        if scope is None or set(scope.split()) == set((grant.requested or "").split()):
            return None, kept
        return scope, self.asked_for(scope, [one for one in defaults if one in kept])

    def told_again(self, idp_scope: object, narrowed: str | None, asked: Sequence[str], grant: Grant) -> str | None:
        """The scope in the token response to a refresh."""
        if isinstance(idp_scope, str):
            return self.told(idp_scope, narrowed or grant.requested, asked)
        if narrowed is None:
            return grant.scope
        return self.consented(narrowed, grant.scope or "")


def _joined(scopes: Iterable[str]) -> str | None:
    return " ".join(scopes) or None


def idp_scopes(settings: Settings) -> IdpScopes:
    """The scopes that the identity provider is asked for."""
    hierarchy = ScopeHierarchy(settings.scope_hierarchy)
    return IdpScopes(
        settings.idp_scopes,
        settings.idp_dropped_scopes,
        hierarchy,
        needed=rule_scopes(settings),
        by_group=GroupScopes(settings.group_scopes, hierarchy, ignores_case=is_github(settings)),
    )
