"""Validation of the tables of scopes that tools and methods of the MCP server need."""

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator
from pydantic_settings import BaseSettings

from seed_oauth.protocol.scope import ScopeHierarchy, is_valid
from seed_oauth.settings.errors import PREFIX
from seed_oauth.settings.validators import Names

if TYPE_CHECKING:
    from seed_oauth.settings import Settings

Table = dict[str, tuple[str, ...]]

# A name, or the beginning of names: a pattern with more wildcards is harder to read, and to check.
_TOOL = re.compile(r"[^*\x00-\x1f\x7f]+\*?|\*")

_MOST_TOOLS = 20  # each is a histogram

# MCP Schema, 2024-11-05 to 2026-07-28: what a client may send.
METHODS = frozenset(
    {
        "completion/complete", "initialize", "logging/setLevel", "notifications/cancelled",
        "notifications/initialized", "notifications/progress", "notifications/roots/list_changed",
        "notifications/tasks/status", "ping", "prompts/get", "prompts/list", "resources/list", "resources/read",
        "resources/subscribe", "resources/templates/list", "resources/unsubscribe", "server/discover",
        "subscriptions/listen", "tasks/cancel", "tasks/get", "tasks/list", "tasks/result", "tasks/update",
        "tools/call", "tools/list",
    }
)  # fmt: skip


def _scopes(table: Table) -> Table:
    if not all(is_valid(scope) and " " not in scope and names for scope, names in table.items()):
        raise ValueError("must have a list of names for each scope (RFC 6749 §3.3)")
    return table


def _tools(table: Table) -> Table:
    if not all(_TOOL.fullmatch(name) for name in _names(table)):
        raise ValueError("must list names of tools, or beginnings of names that end with *, such as delete_*")
    return table


def _methods(table: Table) -> Table:
    for name in _names(table):
        # A misspelt method would be open to everybody.
        beginning = name.removesuffix("*")
        if not any(method == name or (beginning != name and method.startswith(beginning)) for method in METHODS):
            raise ValueError("must list methods of MCP such as resources/read, or beginnings such as resources/*")
    return table


def _names(table: Table) -> list[str]:
    return [name for names in table.values() for name in names]


def _tool_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_TOOL.fullmatch(name) and "*" not in name for name in names) or len(names) > _MOST_TOOLS:
        raise ValueError(f"must list at most {_MOST_TOOLS} names of tools, without *")
    return names


def check(settings: "Settings") -> None:
    """Refuse a scope that no access token can have, because the identity provider is never asked for it.

    Raises:
        ValueError: names the scope and the setting.
    """
    hierarchy = ScopeHierarchy(settings.scope_hierarchy)
    dropped = frozenset(settings.idp_dropped_scopes) - frozenset(settings.idp_scopes)
    obtainable = {scope for scope in settings.scope_hierarchy if scope not in dropped}
    tables: list[tuple[str, Table]] = [("TOOL_SCOPES", settings.tool_scopes), ("METHOD_SCOPES", settings.method_scopes)]
    for server in settings.mcp_servers:
        tables += [("MCP_SERVERS", table) for table in (server.tool_scopes, server.method_scopes) if table]
    for name, table in tables:
        if lost := sorted((table.keys() & dropped) - hierarchy.expanded(obtainable)):
            raise ValueError(
                f"{PREFIX}{name} lists {', '.join(lost)}, which {PREFIX}IDP_DROPPED_SCOPES or the preset never "
                "requests: nobody could use what needs it"
            )


ToolScopes = Annotated[Table, AfterValidator(_scopes), AfterValidator(_tools)]
MethodScopes = Annotated[Table, AfterValidator(_scopes), AfterValidator(_methods)]


class McpMetricsSettings(BaseSettings):
    """Whether the operations of the MCP server are measured, and of which tools."""

    mcp_metrics: Literal["off", "on"] = "off"
    """Whether the [operations of the MCP server](../how-to/measure-mcp-operations.md) are measured. OpenTelemetry's
    conventions for them are in development, so names may change."""
    mcp_tools: Annotated[Names, AfterValidator(_tool_names)] = ()
    """Tools that the metrics name, separated by commas, besides those in `tool_scopes`. Others are `_other`."""

    def measured_tools(self, tool_scopes: Table) -> frozenset[str]:
        """The tools that the metrics name: those of the setting, and those that `tool_scopes` names in full."""
        return frozenset((*self.mcp_tools, *(name for name in _names(tool_scopes) if not name.endswith("*"))))
