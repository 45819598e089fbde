"""The settings of the MCP server: unsafe and invalid ones are refused at startup."""

from typing import Any

import pytest

from seed_oauth import Settings, SettingsError
from seed_oauth.settings.mcp_server import path_of

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
        ({"mcp_server": "http://127.0.0.1:8000/mcp"}, "SEED_OAUTH_MCP_SERVER has the URL of this server"),
        ({"mcp_server": "https://door.example/mcp/"}, "SEED_OAUTH_MCP_SERVER has the URL of this server"),
        ({"resources": "https://door.example/a https://door.example/b"}, "set a single one"),
        ({"resources": "https://elsewhere.example/oauth/token"}, "that this server does not use itself"),
        (
            {"issuer": "https://door.example/tenant", "resources": "https://door.example/tenant2/mcp"},
            "must be a path below",
        ),
        ({"resources": "https://door.example/oauth/token"}, "that this server does not use itself"),
        ({"resources": "https://door.example/.well-known/mcp"}, "that this server does not use itself"),
        ({"resources": "https://door.example/healthz"}, "that this server does not use itself"),
        ({"resources": "https://door.example/{path}"}, "that this server does not use itself"),
        ({"idp_issuer": None}, "SEED_OAUTH_IDP_ISSUER is missing: an MCP server needs it"),
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
        ("https://door.example", "https://files.example", "/"),
        ("https://door.example/tenant", "https://door.example:8443/mcp/", "/mcp"),
    ],
)
def test_the_resource_is_served_at_its_path(issuer: str, resource: str | None, path: str) -> None:
    given = {**GOOD, "issuer": issuer, "mcp_server": "http://mcp/", **({"resources": resource} if resource else {})}
    settings = Settings.load(**given)
    (server,) = settings.forwarded
    assert path_of(server.resource, settings.issuer) == path


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


MAIL = {"resource": "https://door.example/mail", "url": "http://mail:9000/mcp"}
FILES = {"resource": "https://door.example/files", "url": "http://files:9000/mcp"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mcp_servers": [MAIL], "mcp_server": "http://mcp/"}, "MCP_SERVER and SEED_OAUTH_MCP_SERVERS are both set"),
        ({"mcp_servers": [MAIL, {**FILES, "resource": f"{MAIL['resource']}/"}]}, "names one resource twice"),
        ({"mcp_servers": [{**MAIL, "resource": "https://door.example/oauth/x"}]}, "must be a path below"),
        (
            {"mcp_servers": [{**MAIL, "resource": "https://mail.example/mcp", "url": "https://MAIL.example/mcp/"}]},
            "MCP_SERVERS has the URL of this server",
        ),
        (
            {"mcp_servers": [MAIL, {**FILES, "url": MAIL["resource"]}]},
            "MCP_SERVERS has the URL of this server",
        ),
        ({"mcp_servers": [{**MAIL, "url": "http://mail.example/"}]}, "SEED_OAUTH_MCP_SERVERS[0] url must use https"),
        ({"mcp_servers": [{**MAIL, "uri": "x"}]}, "SEED_OAUTH_MCP_SERVERS[0] uri is not known here"),
        ({"mcp_servers": [{"url": "http://mail/"}]}, "SEED_OAUTH_MCP_SERVERS[0] resource is missing"),
        ({"mcp_servers": [{**MAIL, "timeout": 0}]}, "SEED_OAUTH_MCP_SERVERS[0] timeout must be greater than 0"),
        (
            {"mcp_servers": [{**MAIL, "required_scopes": "mail"}], "idp_dropped_scopes": "mail"},
            "REQUIRED_SCOPES lists mail",
        ),
        (
            {"mcp_servers": [{**MAIL, "tool_scopes": {"mail": ["send"]}}], "idp_dropped_scopes": "mail"},
            "MCP_SERVERS lists mail",
        ),
    ],
)
def test_several_mcp_servers_that_cannot_be_served_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load(**{**GOOD, **given})
    assert message in str(refused.value)


def test_another_process_has_the_same_mcp_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [{**MAIL, "required_scopes": ["mail"], "tool_scopes": {"mail:send": ["send_*"]}, "timeout": 5}, FILES]
    settings = Settings.load(**GOOD, mcp_servers=servers)
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load().mcp_servers == settings.mcp_servers


def test_what_an_mcp_server_does_not_say_is_as_for_all() -> None:
    servers = [{**MAIL, "required_scopes": "mail", "method_scopes": {}}, FILES]
    common = {"required_scopes": "base", "tool_scopes": {"x": ["y"]}, "method_scopes": {"z": ["resources/read"]}}
    settings = Settings.load(**GOOD, **common, mcp_servers=servers, scopes="more")
    assert settings.scope_rules(MAIL["resource"]) == (("mail",), {"x": ("y",)}, {})
    assert settings.scope_rules(FILES["resource"]) == (("base",), {"x": ("y",)}, {"z": ("resources/read",)})
    assert settings.scopes_at(MAIL["resource"]) == ("mail", "more")
    assert settings.advertised_scopes == ("mail", "base", "more")
