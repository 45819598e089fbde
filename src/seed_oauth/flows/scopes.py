"""Which scopes the identity provider is asked for, and which ones the client is told that it has."""

from collections.abc import Iterable


class IdpScopes:
    """The two scopes of a login in the broker flow: what the client asks for, and what this server asks for."""

    def __init__(self, added: Iterable[str] = (), dropped: Iterable[str] = ()) -> None:
        """`added` are requested in every login; `dropped` are never passed on."""
        self._added = tuple(added)
        self._dropped = frozenset(dropped)

    def asked_for(self, scope: str | None) -> list[str]:
        """What to ask the identity provider for when a client asks for `scope`.

        MCP clients ask for everything that is advertised and for `offline_access` as well, and an identity provider
        that does not know one of them refuses the whole login.
        """
        wanted = [one for one in (scope or "").split() if one not in self._dropped]
        return list(dict.fromkeys([*wanted, *self._added]))

    def told(self, idp_scope: object, scope: str | None) -> str | None:
        """The scope in the client's token response (RFC 6749 §5.1), None when there is nothing to tell.

        `idp_scope` is what the identity provider granted, and `scope` what the client asked for. Scopes that only
        this server asked for are left out.
        """
        wanted = (scope or "").split()
        granted = idp_scope.split() if isinstance(idp_scope, str) else self.asked_for(scope)
        ours = frozenset(self._added) - frozenset(wanted)
        return " ".join(one for one in granted if one not in ours) or None

    def exceeds(self, scope: str, granted: str | None) -> bool:
        """Whether a refresh asks for more than was granted (RFC 6749 §6); None means that no scope was named."""
        return not set(scope.split()) - self._dropped <= set((granted or "").split())
