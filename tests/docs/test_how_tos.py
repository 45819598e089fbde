"""The how-tos are held to the code: their variables are settings, their commands exist, each preset has its section."""

import re
import secrets
from pathlib import Path

import pytest
from typer.main import get_command

from seed_oauth import Settings, SettingsError
from seed_oauth.cli.main import app
from seed_oauth.outcomes import AuthorizationOutcome, RegistrationOutcome
from seed_oauth.protocol.redirect_uri import is_registered
from seed_oauth.settings.presets import PRESETS

DOCS = Path(__file__).parents[2] / "docs"
PROVIDERS = (DOCS / "identity-providers.md").read_text()
CLIENTS = (DOCS / "clients.md").read_text()
TITLES = {"entra": "Entra ID", "google": "Google", "okta": "Okta", "auth0": "Auth0", "keycloak": "Keycloak",
          "github": "GitHub"}  # fmt: skip
FIVE = ["ISSUER", "SECRET_KEYS", "IDP_ISSUER", "IDP_CLIENT_ID", "IDP_CLIENT_SECRET"]


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def exported(text: str) -> dict[str, str]:
    return dict(re.findall(r'^export SEED_OAUTH_(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))


@pytest.mark.parametrize("text", [PROVIDERS, CLIENTS], ids=["identity-providers", "clients"])
def test_every_variable_is_a_setting(text: str) -> None:
    known = {f"SEED_OAUTH_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"SEED_OAUTH_[A-Z0-9_]*[A-Z0-9]", text)) <= known


@pytest.mark.parametrize("text", [PROVIDERS, CLIENTS], ids=["identity-providers", "clients"])
def test_every_command_exists(text: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    named = set(re.findall(r"seed-oauth (\w+)", text))
    assert named
    assert named <= set(commands)


@pytest.mark.parametrize("text", [PROVIDERS, CLIENTS], ids=["identity-providers", "clients"])
def test_every_file_that_is_linked_exists(text: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / target).exists(), target


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_each_preset_has_its_section_whose_five_variables_make_it_apply(
    preset: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = preset.name  # type: ignore[attr-defined]
    text = section(PROVIDERS, TITLES[name])
    assert f"The preset `{name}`" in text
    assert "/oauth/callback" in text
    assert "Pitfalls:" in text
    variables = exported(text)
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


def test_what_a_preset_does_is_told() -> None:
    for preset in PRESETS:
        text = section(PROVIDERS, TITLES[preset.name])
        for setting, value in preset.defaults.items():
            told = {
                "idp_send_resource": "`resource`",
                "idp_token_auth_method": "credentials in the form",
                "access_tokens": "`SEED_OAUTH_ACCESS_TOKENS=own`",
                "idp_authorization_url": "has the endpoints",
                "idp_token_url": "has the endpoints",
            }.get(setting)
            words = [told] if told else value.split() if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            for word in words:
                assert word in text, (preset.name, setting, word)


def test_the_settings_of_any_other_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = re.findall(r"`SEED_OAUTH_(\w+)=['\"]?(.*?)['\"]?`", section(PROVIDERS, "Any other"))
    assert len(shown) >= 6
    for name, value in shown:
        monkeypatch.setenv(f"SEED_OAUTH_{name}", value)
        Settings.load()


def test_the_reasons_that_are_named_are_rows() -> None:
    rows = {outcome.reason for outcome in (*AuthorizationOutcome, *RegistrationOutcome)}
    assert set(re.findall(r"`(bad_\w+)`", CLIENTS)) <= rows


def test_the_clients_that_are_counted_by_name_have_a_section() -> None:
    for title in ("Claude.ai and Claude Desktop", "Claude Code", "ChatGPT", "VS Code", "Cursor", "MCP Inspector"):
        for part in ("**Add it.**", "**What it sends.**", "**When it fails.**"):
            assert part in section(CLIENTS, title)


def test_the_loopback_ports_of_clients_may_change_as_told() -> None:
    registered = ("http://127.0.0.1/", "http://127.0.0.1:33418/", "https://vscode.dev/redirect")
    assert is_registered("http://127.0.0.1:59656/", registered)
    assert is_registered("http://localhost:4711/callback", ("http://localhost:4712/callback",))
