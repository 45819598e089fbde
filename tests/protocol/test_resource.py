"""PROTOCOL A9 (RFC 8707)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.protocol.resource import canonical


@pytest.mark.parametrize(
    "written",
    [
        "https://mcp.example/server",
        "https://mcp.example/server/",
        "HTTPS://MCP.Example/server",
        "https://mcp.example:443/server",
        "https://mcp.example/server?session=1",
    ],
)
def test_the_same_resource_has_one_canonical_form(written: str) -> None:
    assert canonical(written) == "https://mcp.example/server"


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("https://mcp.example/a", "https://mcp.example/b"),
        ("https://mcp.example/a", "https://mcp.example/A"),
        ("https://mcp.example", "https://mcp.example:8443"),
        ("https://mcp.example", "http://mcp.example"),
        ("http://[::1]:80/", "http://[::1]:81/"),
    ],
)
def test_different_resources_stay_different(one: str, another: str) -> None:
    assert canonical(one) != canonical(another)


@pytest.mark.parametrize(
    "value", ["", "mcp", "/mcp", "https://", "https://mcp.example/#a", "https://u@mcp.example", "https://[::1", "https://a:b/"]
)  # fmt: skip
def test_a_relative_uri_has_no_canonical_form(value: str) -> None:
    assert canonical(value) is None


@given(st.text())
def test_a_canonical_form_is_its_own_canonical_form(value: str) -> None:
    form = canonical(f"https://mcp.example/{value}")
    assert form is None or canonical(form) == form
