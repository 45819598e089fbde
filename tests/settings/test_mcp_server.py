"""The settings of the MCP server: unsafe and invalid ones are refused at startup."""

from typing import Any

import pytest

from seed_oauth import Settings, SettingsError

GOOD: dict[str, Any] = {
    "issuer": "https://door.example",
    "secret_keys": "the-key-that-seals-of-random-characters",
    "idp_issuer": "https://idp.example",
}


@pytest.mark.parametrize(
    "mcp_server",
    [
        "http://127.0.0.1:9000/mcp",
        "http://[::1]:9000/mcp",
        "http://localhost:9000",
        "http://10.1.2.3/mcp",
        "http://192.168.0.7:9000/mcp",
        "http://[fd00::1]/mcp",
        "http://mcp:9000/mcp",
        "http://mcp.default.svc.cluster.local/mcp",
        "http://mcp.internal/",
        "https://mcp.example/inner/mcp",
    ],
)
def test_an_mcp_server_is_on_this_machine_in_a_private_network_or_behind_tls(mcp_server: str) -> None:
    assert Settings.load(**GOOD, mcp_server=mcp_server).mcp_server == mcp_server


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mcp_server": "http://mcp.example/mcp"}, "SEED_OAUTH_MCP_SERVER must use https"),
        ({"mcp_server": "http://93.184.215.14/mcp"}, "SEED_OAUTH_MCP_SERVER must use https"),
        ({"mcp_server": "ftp://mcp/mcp"}, "SEED_OAUTH_MCP_SERVER must be an absolute URL"),
        ({"mcp_server": "mcp:9000"}, "SEED_OAUTH_MCP_SERVER must be an absolute URL"),
        ({"mcp_server": "http://[::1"}, "SEED_OAUTH_MCP_SERVER is not a URL"),
        ({"mcp_server": "http://mcp:99999/"}, "SEED_OAUTH_MCP_SERVER is not a URL"),
        ({"mcp_server": "http://mcp/mcp?a=b"}, "SEED_OAUTH_MCP_SERVER must not have a query"),
        ({"mcp_server": "http://mcp/mcp#"}, "SEED_OAUTH_MCP_SERVER must not have a query"),
        ({"mcp_server": "http://me:secret@mcp/mcp"}, "SEED_OAUTH_MCP_SERVER must not have a query"),
        ({"mcp_server": "http://127.0.0.1:8000/mcp"}, "SEED_OAUTH_MCP_SERVER is the URL of this server"),
        ({"mcp_server": "https://door.example/mcp/"}, "SEED_OAUTH_MCP_SERVER is the URL of this server"),
        ({"resources": "https://door.example/a https://door.example/b"}, "set a single one"),
        ({"resources": "https://elsewhere.example/mcp"}, "must be a path below SEED_OAUTH_ISSUER"),
        (
            {"issuer": "https://door.example/tenant", "resources": "https://door.example/tenant2/mcp"},
            "must be a path below",
        ),
        ({"resources": "https://door.example/oauth/token"}, "that this server does not use itself"),
        ({"resources": "https://door.example/.well-known/mcp"}, "that this server does not use itself"),
        ({"resources": "https://door.example/healthz"}, "that this server does not use itself"),
        ({"resources": "https://door.example/{path}"}, "that this server does not use itself"),
        ({"idp_issuer": None}, "SEED_OAUTH_IDP_ISSUER is missing: SEED_OAUTH_MCP_SERVER"),
        ({"idp_issuer": None, "flow": "relay", "access_tokens": "own"}, "SEED_OAUTH_IDP_ISSUER is missing"),
        ({"mcp_server_timeout": 0}, "SEED_OAUTH_MCP_SERVER_TIMEOUT"),
        ({"mcp_server_body_limit": 10}, "SEED_OAUTH_MCP_SERVER_BODY_LIMIT"),
    ],
)
def test_an_mcp_server_that_is_unsafe_or_cannot_be_served_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        Settings.load(**{**GOOD, "mcp_server": "http://mcp:9000/mcp", **given})
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"access_tokens": "own"},
        {"idp_introspection_url": "https://idp.example/introspect", "flow": "relay"},
        {"idp_issuer": "https://idp.example", "flow": "relay"},
    ],
)
def test_tokens_can_be_validated_in_several_ways(given: dict[str, Any]) -> None:
    assert Settings.load(**{**GOOD, "idp_issuer": None, "mcp_server": "http://mcp/", **given}).can_check_tokens


@pytest.mark.parametrize(
    ("issuer", "resource", "path"),
    [
        ("https://door.example", None, "/mcp"),
        ("https://door.example", "https://door.example", "/"),
        ("https://door.example", "HTTPS://DOOR.example:443/a/b/", "/a/b"),
        ("https://door.example/tenant", None, "/mcp"),
        ("https://door.example/tenant", "https://door.example/tenant/x", "/x"),
    ],
)
def test_the_resource_is_served_at_its_path(issuer: str, resource: str | None, path: str) -> None:
    given = {**GOOD, "issuer": issuer, "mcp_server": "http://mcp/", **({"resources": resource} if resource else {})}
    assert Settings.load(**given).mcp_server_path == path


def test_idp_audiences_allow_only_one_resource() -> None:
    with pytest.raises(SettingsError, match="SEED_OAUTH_IDP_AUDIENCES allows only one resource"):
        Settings.load(**GOOD, idp_audiences="api://x", resources="https://a.example https://b.example")


def test_another_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(
        **GOOD,
        mcp_server="http://mcp:9000/mcp",
        mcp_server_send_token=False,
        idp_audiences="api://x y",
        required_scopes="a b",
    )
    assert settings.idp_audiences == ("api://x", "y")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings
