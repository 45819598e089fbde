"""What a request takes does not depend on how many MCP servers there are: instructions under valgrind, one and 200."""

import pytest
from many_servers import ratios

pytestmark = pytest.mark.real_parts("valgrind")

TOLERANCE = 0.03


def test_no_path_takes_more_with_200_mcp_servers_than_with_one() -> None:
    found = ratios()
    print(found)  # noqa: T201 - the figures are what is of interest
    assert {path: ratio for path, ratio in found.items() if ratio > 1 + TOLERANCE} == {}
