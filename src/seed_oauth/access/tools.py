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


class _Names:
    """Names, and beginnings of names that end with `*`. They are compared as they are written."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        self._beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def __contains__(self, name: str) -> bool:
        return name in self._exact or name.startswith(self._beginnings)


class OperationScopes:
    """The scopes that each operation needs."""

    def __init__(self, tools: Mapping[str, Iterable[str]], methods: Mapping[str, Iterable[str]]) -> None:
        """`tools` and `methods` have, by scope, the names of what needs it; one that ends with `*` stands for many."""
        self._tools = {scope: _Names(names) for scope, names in tools.items()}
        self._methods = {scope: _Names(names) for scope, names in methods.items()}
        self.scopes = tuple(dict.fromkeys((*tools, *methods)))
        """Every scope of the tables; empty if no operation needs one."""

    def needed_by(self, operation: Operation) -> list[str]:
        """All the scopes that the operation needs, in the order of the tables."""
        needed = [scope for scope, names in self._methods.items() if operation.method in names]
        if operation.method == CALL and operation.name is not None:
            needed += [scope for scope, names in self._tools.items() if operation.name in names]
        return needed
