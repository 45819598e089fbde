"""Which scopes only members of certain groups are granted: the operator's table."""

from collections.abc import Iterable, Mapping

from seed_oauth.access.identity import Identity
from seed_oauth.protocol.scope import ScopeHierarchy


class GroupScopes:
    """The scopes that groups bring, whether the identity provider knows these scopes or not."""

    def __init__(
        self,
        table: Mapping[str, Iterable[str]] | None = None,
        hierarchy: ScopeHierarchy | None = None,
        *,
        ignores_case: bool = False,
    ) -> None:
        """`table` has the scopes by group; with `ignores_case`, as at GitHub, its groups are in lower case."""
        self._table = {group: frozenset(scopes) for group, scopes in (table or {}).items()}
        self._hierarchy = hierarchy or ScopeHierarchy()
        self._ignores_case = ignores_case
        self.scopes = frozenset[str]().union(*self._table.values())
        """Every scope of the table."""

    def of(self, user: Identity | None) -> frozenset[str]:
        """The scopes of the table that a user may have: none if their groups are not known."""
        groups = (user.groups if user else None) or ()
        names = {group.lower() if self._ignores_case else group for group in groups}
        brought = (scopes for group, scopes in self._table.items() if group in names)
        return self._hierarchy.expanded(frozenset[str]().union(*brought)) & self.scopes
