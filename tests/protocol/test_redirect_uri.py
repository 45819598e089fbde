"""PROTOCOL A6: which redirect_uri a client may register and use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.protocol.redirect_uri import RedirectUriRules, is_at, is_registered

ISSUER = "https://door.example/tenant"
RULES = RedirectUriRules(ISSUER)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/callback",
        "https://app.example",
        "https://app.example:8443/callback?tenant=1",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:49152/callback",
        "http://[::1]:1/callback",
        "http://localhost:3000/callback",
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "cursor://anysphere.cursor-retrieval/oauth/user-linear/callback",
        "vscode://vscode.github-authentication/did-authenticate",
        "vscode://saoudrizwan.claude-dev/mcp-auth/callback/a1B2",
        "vscode-insiders://saoudrizwan.claude-dev/mcp-auth/callback/a1B2",
        "windsurf://saoudrizwan.claude-dev/mcp-auth/callback/a1B2",
        "claude://claude.ai/mcp-auth-callback/sdk",
        "raycast://oauth?package_name=mcp_server_example_(dev)",
        "com.raycast:/oauth?package_name=Extension",
        "warp://mcp/oauth2callback",
        "warp://mcp/oauth2callback?server_id=65aebdca-613a-4b60-97d3-92548673bd03",
        "com.example.app:/oauth2redirect",
    ],
)
def test_redirect_uris_of_real_clients_are_acceptable(uri: str) -> None:
    assert RULES.objection(uri) is None
    assert is_registered(uri, [uri])


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/callback",
        "callback",
        "//app.example/callback",
        "https:",
        "https://",
        "https:///callback",
        "https://:443/",
        "https://app.example:/",
        "https://app.example:port/",
        "https://app.example:99999/",
        "https://[::1/",
        "http://app.example/callback",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
        "http://127.0.0.2/",
        "http://[::1%25eth0]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "HTTPS://app.example/",
        "https://good.example@evil.example/",
        "https://app.example/#fragment",
        "https://app.example/#",
        "https://app.example\\@evil.example/",
        "https://app.example/a b",
        "https://app.example/\r\nSet-Cookie:a",
        "https://app.example/\x00",
        "https://аpp.example/",  # a Cyrillic letter that looks like an a  # noqa: RUF001
        "javascript:alert(1)",
        "javascript://app.example/%0aalert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "ftp://app.example/",
        "myapp://callback",
        "urn:ietf:wg:oauth:2.0:oob",
        "https://app.example/" + "a" * 2048,
        # Percent-encoded, a host is one name to whoever shows it and another to whoever decodes it.
        "https://claude.ai%E3%80%82evil.example/",
        "https://claude.ai%2eevil.example/",
        "https://claude.ai%00.evil.example/",
        "https://[fe80::1%25eth0]/",
        "http://127.0.0%2e1/",
        # Deep links of applications that MCP clients are, which do something when a browser is sent there.
        "cursor://anysphere.cursor-deeplink/mcp/install?name=a&config=b",
        "cursor://anysphere.cursor-mcp/oauth/callback?to=evil",
        "cursor://file/etc/passwd",
        "vscode://vscode.git/clone?url=https://evil.example/a.git",
        "vscode:mcp/install?%7B%7D",
        "vscode:extension/evil.extension",
        "vscode://file/etc/passwd",
        "vscode://saoudrizwan.claude-dev/task?prompt=callback",
        "vscode://ms-vscode-remote.remote-ssh/../callback",
        "windsurf://codeium.windsurf/openChat",
        "goose://extension?cmd=npx&arg=evil",
        "goose://recipe?config=callback",
        "claude://claude.ai/new?q=callback",
        "claude://resume?session=1",
        "raycast://extensions/evil/evil/oauth",
        "com.raycast:/extensions/evil",
        "warp://action/new_tab?path=/",
        "zed://ssh/evil.example",
    ],
)
def test_an_unsafe_redirect_uri_is_unacceptable(uri: str) -> None:
    """PROTOCOL A6, THREATS 7 and 22."""
    assert RULES.objection(uri) is not None


@pytest.mark.parametrize(
    "uri",
    [
        "https://door.example/oauth/callback",
        "https://door.example/tenant/oauth/callback",
        "https://door.example/",
        "https://door.example",
        "https://door.example:443/",
        "https://DOOR.example/",
        "https://door.example./",
    ],
)
def test_nobody_is_sent_back_to_this_server_itself(uri: str) -> None:
    """RFC 9700 §4.11.2, THREATS 22."""
    assert RULES.objection(uri) is not None
    assert is_at(uri, ISSUER)


@pytest.mark.parametrize(
    "uri", ["https://door.example:8443/", "https://app.door.example/", "https://door.example.org/"]
)
def test_another_origin_is_not_this_server(uri: str) -> None:
    assert RULES.objection(uri) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_loopback_this_server_is_its_port_by_whatever_name(host: str) -> None:
    assert is_at(f"http://{host}:8000/oauth/callback", "http://127.0.0.1:8000")
    assert not is_at(f"http://{host}:8001/callback", "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "requested",
    [
        "https://app.example/callback/",
        "https://app.example/callback?",
        "https://app.example/callback?a=1",
        "https://app.example/callback/../callback",
        "https://app.example/%63allback",
        "https://app.example%2fcallback",
        "https://app.example/callback%2f",
        "https://app.example/%2e%2e/callback",
        "https://app.example./callback",
        "https://evil.example\\@app.example/callback",
        "https://\u0430pp.example/callback",
        "HTTPS://app.example/callback",
        "https://app.example:443/callback",
        "https://APP.example/callback",
        "https://app.example/callbac",
        "https://app.example/callback2",
        "https://app.example.evil.example/callback",
        "https://app.example@evil.example/callback",
        "http://app.example/callback",
        "",
    ],
)
def test_only_the_identical_string_is_registered(requested: str) -> None:
    """PROTOCOL A6, THREATS 7."""
    assert not is_registered(requested, ["https://app.example/callback"])


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_on_loopback_only_the_port_may_differ(host: str) -> None:
    """PROTOCOL A6, THREATS 7. RFC 8252 §7.3: native apps listen on any free port."""
    registered = [f"http://{host}:1234/callback?a=1"]
    assert is_registered(f"http://{host}:5678/callback?a=1", registered)
    assert is_registered(f"http://{host}/callback?a=1", registered)
    assert is_registered(f"http://{host}:1/callback?a=1", [f"http://{host}/callback?a=1"])
    assert not is_registered(f"http://{host}:5678/other?a=1", registered)
    assert not is_registered(f"http://{host}:5678/callback", registered)
    assert not is_registered(f"https://{host}:5678/callback?a=1", registered)
    assert not is_registered(f"http://{host}:5678@evil.example/callback?a=1", registered)
    assert not is_registered(f"http://{host}.evil.example:5678/callback?a=1", registered)
    assert not is_registered(f"http://{host}:x/callback?a=1", registered)
    assert not is_registered(f"http://{host}:/callback?a=1", registered)


def test_one_loopback_host_does_not_stand_for_another() -> None:
    assert not is_registered("http://127.0.0.1:1/callback", ["http://localhost/callback"])
    assert not is_registered("http://LOCALHOST:1/callback", ["http://localhost/callback"])


def test_a_scheme_that_the_operator_allows_is_acceptable() -> None:
    rules = RedirectUriRules(ISSUER, frozenset({"myapp", "zed"}))
    assert rules.objection("myapp://callback") is None
    assert rules.objection("zed://whatever/it/opens") is None


@given(st.text())
def test_the_check_accepts_any_text_without_an_exception(uri: str) -> None:
    refused = RULES.objection(uri) is not None
    assert isinstance(refused, bool)
    assert is_registered(uri, [uri])
    assert not is_registered(uri + "x", [uri])


@given(st.text(), st.integers(1, 65535))
def test_another_host_is_never_registered(path: str, port: int) -> None:
    assert not is_registered(f"http://evil.example:{port}/{path}", [f"http://127.0.0.1/{path}"])
