"""Which scopes an operation needs."""

import pytest

from seed_oauth.access.tools import CALL, Operation, OperationScopes

TABLE = OperationScopes(
    tools={"files:write": ["write_file", "delete_*"], "files:read": ["read_file", "delete_*"], "admin": ["Admin"]},
    methods={"files:read": ["resources/*"], "tools": ["tools/call"]},
)


@pytest.mark.parametrize(
    ("operation", "needed"),
    [
        (Operation(CALL, "write_file"), ["tools", "files:write"]),
        (Operation(CALL, "delete_file"), ["tools", "files:write", "files:read"]),
        (Operation(CALL, "delete_"), ["tools", "files:write", "files:read"]),
        (Operation(CALL, "delete"), ["tools"]),
        (Operation(CALL, "write_file2"), ["tools"]),
        (Operation(CALL, "admin"), ["tools"]),
        (Operation(CALL), ["tools"]),
        (Operation("resources/read", "file:///a"), ["files:read"]),
        (Operation("resources/templates/list"), ["files:read"]),
        (Operation("resources"), []),
        (Operation("prompts/get", "write_file"), []),
        (Operation("tools/list"), []),
    ],
)
def test_an_operation_needs_every_scope_that_lists_it(operation: Operation, needed: list[str]) -> None:
    """PROTOCOL M8."""
    assert TABLE.needed_by(operation) == needed


def test_an_asterisk_stands_for_every_name() -> None:
    everything = OperationScopes(tools={"mcp": ["*"]}, methods={})
    assert everything.needed_by(Operation(CALL, "")) == ["mcp"]
    assert everything.needed_by(Operation("tools/list")) == []


def test_the_scopes_of_the_tables_are_known_each_once() -> None:
    assert TABLE.scopes == ("files:write", "files:read", "admin", "tools")
    assert OperationScopes({}, {}).scopes == ()
