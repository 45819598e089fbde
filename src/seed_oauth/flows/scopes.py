"""Which scopes the identity provider is asked for, and which the client is told it has."""

from seed_oauth.settings import Settings


class IdpScopes:
    """The two scopes of a login in the broker flow: what the client asks for, and what we ask for."""

    def __init__(self, settings: Settings) -> None:
        self._added = settings.idp_scopes
        self._dropped = frozenset(settings.idp_dropped_scopes)

    def asked_for(self, scope: str | None) -> list[str]:
        """What to ask the identity provider for, when a client asks for `scope`.

        MCP clients ask for all that is advertised and for `offline_access` besides, and an identity provider
        that does not know one of them refuses the whole login.
        """
        wanted = [one for one in (scope or "").split() if one not in self._dropped]
        return list(dict.fromkeys([*wanted, *self._added]))

    def told(self, idp_scope: object, scope: str | None) -> str | None:
        """What the client is told that it got (RFC 6749 §5.1), None when there is nothing to tell.

        `idp_scope` is what the identity provider said, and `scope` what the client asked for. What we asked for
        on our own account is none of the client's.
        """
        wanted = (scope or "").split()
        granted = idp_scope.split() if isinstance(idp_scope, str) else self.asked_for(scope)
        ours = frozenset(self._added) - frozenset(wanted)
        return " ".join(one for one in granted if one not in ours) or None

    def exceeds(self, scope: str, granted: str | None) -> bool:
        """Whether a refresh asks for more than was granted (RFC 6749 §6); None is for no scope by name."""
        return not set(scope.split()) - self._dropped <= set((granted or "").split())
