"""Which scopes the operations of an MCP server need: the operator's tables of tools and of methods."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

CALL = "tools/call"
LIST = "tools/list"


class Operation(NamedTuple):
    """What an MCP message asks a server to do."""

    method: str
    name: str | None = None
    """The tool of a `tools/call`, the prompt of a `prompts/get`, the URI of a `resources/read`; else None."""


class _Table:
    """The scopes that names need. A pattern that ends with `*` is the beginning of names; case matters."""

    def __init__(self, table: Mapping[str, Iterable[str]]) -> None:
        self._patterns = [(scope, pattern) for scope, patterns in table.items() for pattern in patterns]
        self._beginnings = tuple(pattern[:-1] for _, pattern in self._patterns if pattern.endswith("*"))
        self._by_name = {pattern: self._found(pattern) for _, pattern in self._patterns}

    def scopes_of(self, name: str) -> list[str]:
        """Those that the name needs, in the order of the table."""
        return self._found(name) if name.startswith(self._beginnings) else self._by_name.get(name, [])

    def _found(self, name: str) -> list[str]:
        matching = (scope for scope, pattern in self._patterns if _matches(name, pattern))
        return list(dict.fromkeys(matching))


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


class OperationScopes:
    """The scopes that each operation needs."""

    def __init__(self, tools: Mapping[str, Iterable[str]], methods: Mapping[str, Iterable[str]]) -> None:
        """`tools` and `methods` have, by scope, the names of what needs it; one that ends with `*` stands for many."""
        self._tools = _Table(tools)
        self._methods = _Table(methods)
        self.scopes = tuple(dict.fromkeys((*tools, *methods)))
        """Every scope of the tables; empty if no operation needs one."""

    def needed_by(self, operation: Operation) -> list[str]:
        """All the scopes that the operation needs, in the order of the tables."""
        method, name = operation
        needed = self._methods.scopes_of(method)
        return needed + self._tools.scopes_of(name) if method == CALL and name is not None else needed
