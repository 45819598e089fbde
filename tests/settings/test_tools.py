"""The tables of scopes that tools and methods need."""

import json
from typing import Any

import pytest

from seed_oauth import Settings, SettingsError


def test_the_tables_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {"files:write": ["write_file", "delete_*", "Two words", "*"]}
    monkeypatch.setenv("SEED_OAUTH_TOOL_SCOPES", json.dumps(tools))
    monkeypatch.setenv("SEED_OAUTH_METHOD_SCOPES", '{"files:read": ["resources/read", "prompts/*"]}')
    settings = Settings.load()
    assert settings.tool_scopes == {"files:write": ("write_file", "delete_*", "Two words", "*")}
    assert settings.method_scopes == {"files:read": ("resources/read", "prompts/*")}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"tool_scopes": {"two words": ["a"]}}, "TOOL_SCOPES must have a list of names for each scope"),
        ({"tool_scopes": {"": ["a"]}}, "TOOL_SCOPES must have a list of names for each scope"),
        ({"tool_scopes": {"a": []}}, "TOOL_SCOPES must have a list of names for each scope"),
        ({"tool_scopes": {"a": ["*_file"]}}, "TOOL_SCOPES must list names of tools"),
        ({"tool_scopes": {"a": ["a**"]}}, "TOOL_SCOPES must list names of tools"),
        ({"tool_scopes": {"a": [""]}}, "TOOL_SCOPES must list names of tools"),
        ({"tool_scopes": {"a": ["b\n"]}}, "TOOL_SCOPES must list names of tools"),
        ({"tool_scopes": {"a": "b"}}, "TOOL_SCOPES a must be a JSON list"),
        ({"tool_scopes": ["a"]}, "TOOL_SCOPES must be a JSON object"),
        ({"method_scopes": {"a": ["resource/read"]}}, "METHOD_SCOPES must list methods of MCP"),
        ({"method_scopes": {"a": ["*/read"]}}, "METHOD_SCOPES must list methods of MCP"),
        ({"method_scopes": {"a": ["resources/[a-z]*"]}}, "METHOD_SCOPES must list methods of MCP"),
        ({"method_scopes": {"a": ["Tools/call"]}}, "METHOD_SCOPES must list methods of MCP"),
        ({"method_scopes": {"a": []}}, "METHOD_SCOPES must have a list of names for each scope"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^SEED_OAUTH_{reason}"):
        Settings.load(**given)


@pytest.mark.parametrize("table", [{"tool_scopes": {"mail": ["send"]}}, {"method_scopes": {"mail": ["tools/call"]}}])
def test_a_scope_that_nobody_can_get_is_refused(table: dict[str, Any]) -> None:
    (name,) = table
    dropped: dict[str, Any] = {**table, "idp_dropped_scopes": "mail files"}
    with pytest.raises(SettingsError, match=f"SEED_OAUTH_{name.upper()} lists mail, which SEED_OAUTH_IDP_DROPPED"):
        Settings.load(**dropped)
    with pytest.raises(SettingsError, match="lists mail"):
        Settings.load(**dropped, scope_hierarchy={"files": ["mail"]})
    # A scope that includes it can be granted, or it is requested in every login.
    Settings.load(**dropped, scope_hierarchy={"admin": ["office"], "office": ["mail"]})
    Settings.load(**dropped, idp_scopes="mail")
