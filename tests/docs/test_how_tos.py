"""The how-tos are held to the code: their variables are settings, their commands exist, their examples run."""

import json
import re
import secrets
import shlex
import tomllib
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from seed_oauth import Settings, SettingsError
from seed_oauth.access.tools import Operation, OperationScopes
from seed_oauth.cli.main import app
from seed_oauth.outcomes import AuthorizationOutcome, RegistrationOutcome
from seed_oauth.protocol.redirect_uri import is_registered
from seed_oauth.settings.preset import Preset
from seed_oauth.settings.presets import PRESETS
from seed_oauth.settings.sources import SECRETS
from tests.docs.pages import PAGES, ROOT, ROOT_PAGES, block, read, section

pytestmark = pytest.mark.anyio

EVERY_PAGE = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in [*PAGES, *ROOT_PAGES]}
CLIENTS = ("claude", "claude-code", "chatgpt", "vscode", "cursor", "inspector")
FIVE = ["ISSUER", "SECRET_KEYS", "IDP_ISSUER", "IDP_CLIENT_ID", "IDP_CLIENT_SECRET"]


def exported(text: str) -> dict[str, str]:
    return dict(re.findall(r'^export SEED_OAUTH_(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_variable_is_a_setting(page: str) -> None:
    known = Settings.known_variables()
    assert set(re.findall(r"SEED_OAUTH_[A-Z0-9_]*[A-Z0-9]", EVERY_PAGE[page])) <= known


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_command_exists(page: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"`seed-oauth ([a-z]+)|^seed-oauth ([a-z]+)", EVERY_PAGE[page], re.MULTILINE)) <= {
        *((name, "") for name in commands),
        *(("", name) for name in commands),
    }


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_each_preset_has_its_page_whose_five_variables_make_it_apply(
    preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = read(f"how-to/identity-providers/{preset.name}.md")
    assert f"The preset `{preset.name}`" in section(page, "What the preset does")
    assert "/oauth/callback" in section(page, "Register the client")
    assert section(page, "Pitfalls")
    variables = exported(page)
    assert list(variables)[:5] == FIVE
    for variable, value in variables.items():
        monkeypatch.setenv(f"SEED_OAUTH_{variable}", value)
    # Whoever copies the example without putting a key in is told so.
    with pytest.raises(SettingsError, match="SEED_OAUTH_SECRET_KEYS must have at least 32 random characters"):
        Settings.load()
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS", secrets.token_urlsafe(32))
    settings = Settings.load()
    assert settings.preset is preset
    assert settings.missing() == []


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_what_a_preset_does_is_on_its_page(preset: Preset) -> None:
    text = section(read(f"how-to/identity-providers/{preset.name}.md"), "What the preset does")
    for setting, value in preset.defaults.items():
        told = {
            "idp_send_resource": "`resource`",
            "idp_token_auth_method": "credentials in the form",
            "access_tokens": "`SEED_OAUTH_ACCESS_TOKENS=own`",
            "idp_authorization_url": "has the endpoints built in",
            "idp_token_url": "has the endpoints built in",
            "idp_userinfo_url": "asks the [API]",
        }.get(setting)
        words = [told] if told else value.split() if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        for word in words:
            assert word in text, (setting, word)


@pytest.mark.parametrize("name", ["google", "github", "entra", "keycloak"])
def test_the_rules_that_are_shown_can_be_loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in exported(block(read("how-to/who-may-come-in.md"), name).replace("'", "")).items():
        monkeypatch.setenv(f"SEED_OAUTH_{variable}", value)
    settings = Settings.load()
    assert settings.rules("allowed")
    assert settings.preset is not None
    assert settings.preset.name == name


def test_the_settings_of_any_other_identity_provider_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = re.findall(r"`SEED_OAUTH_(\w+)=['\"]?(.*?)['\"]?`", read("how-to/identity-providers/generic.md"))
    assert len(shown) >= 6
    for name, value in shown:
        monkeypatch.setenv(f"SEED_OAUTH_{name}", value)
        Settings.load()


def test_the_settings_of_forward_authentication_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in exported(block(read("how-to/forward-authentication.md"), "forward-auth")).items():
        monkeypatch.setenv(f"SEED_OAUTH_{variable}", value)
    settings = Settings.load(secret_keys=secrets.token_urlsafe(32), access_tokens="own")
    assert settings.can_check_tokens
    assert settings.trusted_proxies


def test_the_settings_file_that_is_shown_can_be_loaded_and_fits_its_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = block(read("how-to/settings-file.md"), "settings file")
    schema = json.loads(CliRunner().invoke(app, ["config", "schema"]).output)
    jsonschema_rs.Draft202012Validator(schema).validate(tomllib.loads(shown))
    for path, text in {"seed-oauth.toml": shown, "idp-client-secret": "x", "secret-keys": "a\nb"}.items():
        (tmp_path / path).write_text(text.replace("a\nb", secrets.token_urlsafe(32)))
        (tmp_path / path).chmod(0o644)
    monkeypatch.setenv("SEED_OAUTH_CONFIG", str(tmp_path / "seed-oauth.toml"))
    settings = Settings.load()
    assert settings.missing() == []
    assert settings.allowed_email_domains == ("example.com",)
    assert [client.client_id for client in settings.clients] == ["reports"]


@pytest.mark.parametrize(
    ("shown", "timeouts"), [("mcp servers", [None, 600]), ("mcp servers on other hosts", [None, None])]
)
def test_the_mcp_servers_that_are_shown_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, timeouts: list[float | None]
) -> None:
    path = tmp_path / "seed-oauth.toml"
    path.write_text(block(read("how-to/many-mcp-servers.md"), shown))
    monkeypatch.setenv("SEED_OAUTH_CONFIG", str(path))
    settings = Settings.load(secret_keys=secrets.token_urlsafe(32), access_tokens="own")
    assert [server.timeout for server in settings.forwarded] == timeouts
    schema = json.loads(CliRunner().invoke(app, ["config", "schema"]).output)
    jsonschema_rs.Draft202012Validator(schema).validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize(
    ("page", "shown", "own"),
    [
        ("many-mcp-servers", "mcp servers with access rules", [set(), {"groups", "emails", "roles"}]),
        ("who-may-come-in", "one server", [{"groups"}]),
    ],
)
def test_the_rules_of_single_mcp_servers_that_are_shown_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, shown: str, own: list[set[str]]
) -> None:
    path = tmp_path / "seed-oauth.toml"
    path.write_text(block(read(f"how-to/{page}.md"), shown))
    monkeypatch.setenv("SEED_OAUTH_CONFIG", str(path))
    settings = Settings.load(
        issuer="https://mcp.example.com", access_tokens="own", secret_keys=secrets.token_urlsafe(32)
    )
    assert settings.rules("allowed")
    assert [{*server.rules("allowed"), *server.rules("denied")} for server in settings.mcp_servers] == own
    schema = json.loads(CliRunner().invoke(app, ["config", "schema"]).output)
    jsonschema_rs.Draft202012Validator(schema).validate(tomllib.loads(path.read_text()))


def test_every_secret_that_may_be_in_a_file_of_its_own_is_listed() -> None:
    listed = section(read("how-to/settings-file.md"), "Secrets in files of their own")
    assert set(re.findall(r"`SEED_OAUTH_(\w+)_FILE`", listed)) == {name.upper() for name in SECRETS}


def test_the_clients_in_the_settings_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    page = read("how-to/clients/other.md")
    monkeypatch.setenv("SEED_OAUTH_CLIENTS", block(page, "clients"))
    (client,) = Settings.load().clients
    (fields,) = re.findall(r"^`client_id` and .*?optional\.", page, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", fields))
    assert named == set(type(client).model_fields)


def test_the_reasons_that_are_named_are_rows() -> None:
    rows = {outcome.reason for outcome in (*AuthorizationOutcome, *RegistrationOutcome)}
    named = set(re.findall(r"`(bad_\w+)` in the log", read(*(f"how-to/clients/{name}.md" for name in CLIENTS))))
    assert named
    assert named <= rows


@pytest.mark.parametrize("name", CLIENTS)
def test_each_client_that_is_counted_by_name_has_its_page(name: str) -> None:
    page = read(f"how-to/clients/{name}.md")
    for part in ("Add the server", "What it sends", "Troubleshooting"):
        assert section(page, part)


def test_the_loopback_ports_of_clients_may_change_as_described() -> None:
    registered = ("http://127.0.0.1/", "http://127.0.0.1:33418/", "https://vscode.dev/redirect")
    assert is_registered("http://127.0.0.1:59656/", registered)
    assert is_registered("http://localhost:4711/callback", ("http://localhost:4712/callback",))


def test_the_python_server_is_protected_as_in_the_example_that_runs() -> None:
    example = read("examples/python_mcp_server.py")
    for page in (EVERY_PAGE["README.md"], read("how-to/protect-an-mcp-server.md")):
        assert all(line in example for line in block(page, "protect").splitlines())


async def test_the_app_mounts_as_shown_and_its_mcp_server_is_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", f"sqlite:///{tmp_path}/clients.db")
    monkeypatch.setenv("SEED_OAUTH_IDP_ISSUER", "https://idp.example.com")
    shown: dict[str, Any] = {}
    exec(block(read("how-to/asgi-app.md"), "mount"), shown)  # noqa: S102 - the page's own code
    mounted = shown["app"]
    async with (
        mounted.router.lifespan_context(mounted),
        httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://app") as http,
        httpx.AsyncClient(transport=httpx.ASGITransport(shown["metrics"]), base_url="http://metrics") as metrics,
    ):
        refused = await http.get("/mcp")
        assert refused.status_code == 401
        assert "resource_metadata=" in refused.headers["www-authenticate"]
        assert (await http.get("/.well-known/oauth-authorization-server")).status_code == 200
        assert (await http.get("/.well-known/oauth-protected-resource/mcp")).status_code == 200
        assert (await http.post("/oauth/register", json={})).status_code == 400
        scrape = (await metrics.get("/metrics")).text
    assert 'oauth_dcr_registrations_total{result="invalid"} 1.0' in scrape
    assert 'oauth_errors_total{cause="client",endpoint="resource",reason="no_token"} 1.0' in scrape


def settings_in(page: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a block of a page exports."""
    for word in shlex.split(block(read(page), name)):
        variable, is_assigned, value = word.partition("=")
        if is_assigned:
            monkeypatch.setenv(variable, value)
    return Settings.load()


def test_the_example_of_scopes_that_groups_bring_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in("how-to/scopes-and-tools.md", "groups", monkeypatch)
    assert settings.tool_scopes.keys() == {scope for scopes in settings.group_scopes.values() for scope in scopes}


def test_the_example_of_tools_that_need_scopes_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in("how-to/scopes-and-tools.md", "tables", monkeypatch)
    table = OperationScopes(settings.tool_scopes, settings.method_scopes)
    assert table.needed_by(Operation("tools/call", "delete_file")) == ["files:write"]
    assert table.needed_by(Operation("resources/read", "file:///a")) == ["files:read"]
    assert settings.scope_descriptions.keys() == set(table.scopes)
