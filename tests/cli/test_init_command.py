"""`seed-oauth init`: five questions, and the settings file."""

from pathlib import Path

import pytest
from typer import BadParameter
from typer.testing import CliRunner, Result

from seed_oauth import Settings, SettingsError
from seed_oauth.cli.init import ISSUERS, ask_for_settings, write
from seed_oauth.cli.main import app
from seed_oauth.settings.presets import PRESETS
from tests.docs.pages import read

NOBODY = "http://127.0.0.1:9"
"""Where nothing answers, so that the doctor is done at once."""


def settings_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SEED_OAUTH_CONFIG", str(path))
    return Settings.load()


def init(path: Path, *options: str, typed: str = "") -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["init", str(path), *options], input=typed)


def answers(*lines: str) -> str:
    return "\n".join([*lines, ""])


def test_the_answers_become_a_settings_file_that_only_its_owner_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seed-oauth.toml"
    done = init(path, typed=answers("http://127.0.0.1:8080", NOBODY, "mcp", 'a "secret"', f"{NOBODY}/mcp"))
    assert done.exit_code == 0
    assert "Register this redirect URI there: http://127.0.0.1:8080/oauth/callback" in done.output
    assert f"Start the server with: seed-oauth serve --config {path}\n" in done.output
    assert "MCP clients connect to: http://127.0.0.1:8080/mcp\n" in done.output
    assert "✓ settings" in done.output  # the doctor's
    assert 'secret"' not in done.output
    assert path.stat().st_mode & 0o777 == 0o600
    settings = settings_of(path, monkeypatch)
    assert (settings.issuer, settings.port) == ("http://127.0.0.1:8080", 8080)
    assert (settings.idp_issuer, settings.idp_client_id) == (NOBODY, "mcp")
    assert settings.idp_client_secret is not None
    assert settings.idp_client_secret.get_secret_value() == 'a "secret"'
    assert settings.mcp_server == f"{NOBODY}/mcp"
    assert settings.secret_keys == settings_of(path, monkeypatch).secret_keys  # kept across restarts
    assert path.read_text().count("\n# ") == 5


def test_what_is_left_empty_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seed-oauth.toml"
    done = init(path, typed=answers("", NOBODY, "mcp", "", ""))
    assert done.exit_code == 0
    assert "MCP clients connect to" not in done.output
    settings = settings_of(path, monkeypatch)
    assert settings.issuer == "http://127.0.0.1:8000"
    assert (settings.idp_client_secret, settings.mcp_server) == (None, None)


def test_an_answer_that_cannot_be_used_is_asked_for_again(tmp_path: Path) -> None:
    typed = answers("door.example", "http://127.0.0.1", "elsewhere", NOBODY, "mcp", "", "ftp://x", "")
    done = init(tmp_path / "seed-oauth.toml", typed=typed)
    assert done.exit_code == 0
    assert done.output.count("Error: this must be an absolute URL") == 3
    assert "port = 80\n" in (tmp_path / "seed-oauth.toml").read_text()


def test_the_name_of_an_identity_provider_is_enough_where_there_is_only_one_issuer() -> None:
    given = {"issuer": "https://door.example", "idp_client_id": "a", "idp_client_secret": "b", "mcp_server": ""}
    assert (
        ask_for_settings({**given, "idp_issuer": "google", "allow": "example.com, ann@example.org"}).items()
        >= {
            "idp_issuer": "https://accounts.google.com",
            "allowed_emails": ["ann@example.org"],
            "allowed_email_domains": ["example.com"],
        }.items()
    )
    everybody = ask_for_settings({**given, "idp_issuer": "github", "allow": "everybody"})
    assert everybody["allow_everybody"] is True


def test_whoever_may_come_in_is_asked_where_everybody_can_have_an_account(tmp_path: Path) -> None:
    path = tmp_path / "seed-oauth.toml"
    tenant = "https://login.microsoftonline.com/common/v2.0"
    options = ["--idp-client-id", "a", "--idp-client-secret", "b", "--mcp-server", ""]
    done = init(path, *options, typed=answers("", "entra", ISSUERS["entra"], "entra", tenant, "example.com"))
    assert done.exit_code == 0
    # A placeholder is no answer, and neither is the name.
    assert done.output.count("Its issuer, such as https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0") == 3
    assert 'allowed_email_domains = ["example.com"]' in path.read_text()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("everybody ", {"allow_everybody": True}),
        ("example.com, ann@example.org,, ", {"allowed_email_domains": ("example.com",)}),
        ("@\n,\n*.example.com\nexample.com", {"allowed_email_domains": ("example.com",)}),
    ],
)
def test_who_may_come_in_is_tidied_and_asked_for_again_if_it_cannot_be_used(
    typed: str, expected: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seed-oauth.toml"
    options = ["--idp-client-id", "a", "--idp-client-secret", "b", "--mcp-server", ""]
    done = init(path, *options, typed=answers(" http://127.0.0.1:1 ", "google ", typed))
    assert done.exit_code == 0, done.output
    settings = settings_of(path, monkeypatch)
    assert settings.issuer == "http://127.0.0.1:1"
    assert {name: getattr(settings, name) for name in expected} == expected
    assert done.output.count("Error: this must") == typed.count("\n")


def test_nothing_is_asked_if_the_options_have_every_answer(tmp_path: Path) -> None:
    options = ["--issuer", "http://127.0.0.1:1", "--idp-issuer", NOBODY, "--idp-client-id", "a", "--mcp-server", ""]
    environment = {"SEED_OAUTH_IDP_CLIENT_SECRET": "hunter2"}
    done = CliRunner(env=environment).invoke(app, ["init", str(tmp_path / "a.toml"), *options])
    assert done.exit_code == 0
    assert 'idp_client_secret = "hunter2"' in (tmp_path / "a.toml").read_text()
    refused = init(tmp_path / "b.toml", "--issuer", "http://door.example", *options[2:])
    assert refused.exit_code == 2
    assert "this must use https" in refused.output
    assert not (tmp_path / "b.toml").exists()


def test_what_does_not_fit_together_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "seed-oauth.toml"
    done = init(path, typed=answers("http://127.0.0.1:1", "http://127.0.0.1:1", "a", "b", ""))
    assert str(done.exception).startswith("SEED_OAUTH_IDP_ISSUER is the URL of this server")
    assert not path.exists()


def test_a_file_is_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "seed-oauth.toml"
    path.write_text("port = 1")
    path.chmod(0o644)
    options = ["--issuer", "http://127.0.0.1:1", "--idp-issuer", NOBODY, "--idp-client-id", "a", "--mcp-server", ""]
    options += ["--idp-client-secret", "b"]
    for typed in ("n\n", ""):
        done = init(path, *options, typed=typed)
        assert done.exit_code == 1
        assert path.read_text() == "port = 1"
    assert init(path, *options, typed="y\n").exit_code == 0
    assert init(path, "--overwrite", *options).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone/seed-oauth.toml cannot be written \(No such file or directory\)"):
        write(tmp_path / "gone" / "seed-oauth.toml", {"issuer": "http://127.0.0.1:8000"})


@pytest.mark.parametrize("character", ["\x7f", "\0", "\udcff"])
def test_an_answer_that_cannot_be_printed_is_refused(character: str) -> None:
    given = {"issuer": "https://door.example", "idp_issuer": NOBODY, "idp_client_id": "a", "mcp_server": ""}
    for name in ("idp_client_id", "idp_client_secret", "allow"):
        with pytest.raises(BadParameter, match="this must have printable characters only"):
            ask_for_settings({"idp_client_secret": "b", **given, name: f"a{character}.example"})


@pytest.mark.parametrize("value", ["\udcff", "a"], ids=["no UTF-8", "a folder in its place"])
def test_nothing_is_left_of_a_file_that_cannot_be_written(value: str, tmp_path: Path) -> None:
    (tmp_path / "seed-oauth.toml").mkdir()
    with pytest.raises((SettingsError, UnicodeEncodeError)):
        write(tmp_path / "seed-oauth.toml", {"idp_client_id": value})
    assert [*tmp_path.rglob("*")] == [tmp_path / "seed-oauth.toml"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_issuer_that_is_suggested_is_that_of_the_guide(preset: object) -> None:
    name = preset.name  # type: ignore[attr-defined]  # one of them
    assert f"export SEED_OAUTH_IDP_ISSUER={ISSUERS[name]}\n" in read(f"how-to/identity-providers/{name}.md")
