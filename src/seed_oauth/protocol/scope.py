"""Scopes: the syntax of the parameter (RFC 6749 §3.3), and which scopes include others."""

import re
from collections.abc import Iterable, Mapping

_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")


def is_valid(scope: str) -> bool:
    """Whether it is a list of scope tokens, separated by single spaces."""
    return _SCOPE.fullmatch(scope) is not None


class ScopeHierarchy:
    """Scopes that include others: whoever has `files:write` may also do what takes `files:read`."""

    def __init__(self, includes: Mapping[str, Iterable[str]] | None = None) -> None:
        """`includes` has the scopes that each scope includes, and they may include more."""
        self._includes = {scope: frozenset(included) for scope, included in (includes or {}).items()}

    def expanded(self, scopes: Iterable[str]) -> frozenset[str]:
        """`scopes` and everything that they include."""
        known: set[str] = set()
        found = set(scopes)
        while found:
            known |= found
            found = {one for scope in found for one in self._includes.get(scope, ())} - known
        return frozenset(known)

    def covers(self, granted: Iterable[str], wanted: Iterable[str]) -> bool:
        """Whether each of `wanted` is granted, by its own name or by that of a scope that includes it."""
        return self.expanded(granted).issuperset(wanted)

    def common(self, some: Iterable[str], others: Iterable[str]) -> list[str]:
        """The scopes that both cover; of `files:write` and `files:read`, the latter."""
        some, others = list(some), list(others)
        covered = self.expanded(some) & self.expanded(others)
        return [scope for scope in dict.fromkeys([*some, *others]) if scope in covered]
