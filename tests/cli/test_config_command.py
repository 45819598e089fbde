"""`seed-oauth config`, and the options with which commands find their settings."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
from typer.testing import CliRunner, Result

from seed_oauth import SettingsError
from seed_oauth.cli.main import app
from tests.cli.test_cli import run as run_command
from tests.cli.test_cli import serving

SECRET = "0123456789abcdef0123456789ABCDEF"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "seed-oauth.toml"
    path.write_text(f"idp_client_id = 'a'\nidp_client_secret = '{SECRET}'\nscopes = ['mail', 'files']\n")
    path.chmod(0o600)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*map(str, arguments)])


def test_check_shows_what_is_set_and_where(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_WORKERS", "2")
    done = run("config", "check", "--config", file)
    assert done.exit_code == 0
    head, *rows, last = [line.split() for line in done.output.splitlines()]
    assert head == ["setting", "value", "from"]
    assert ["workers", "2", "SEED_OAUTH_WORKERS"] in rows
    assert ["scopes", "mail", "files", str(file)] in rows
    assert ["idp_client_secret", "(secret)", str(file)] in rows
    assert len(rows) == 4
    assert " ".join(last) == "The settings are valid. 4 are set, the others have their defaults."


def test_check_shows_the_defaults_when_asked_to(file: Path) -> None:
    shown = json.loads(run("config", "check", "--all", "--json", "--config", file).output)
    assert shown["port"] == {"value": "8000", "from": "default"}
    assert shown["idp_client_id"] == {"value": "a", "from": str(file)}
    assert shown["registration_tokens"] == {"value": "", "from": "default"}


def test_check_says_that_nothing_is_set() -> None:
    assert run("config", "check").output == "The settings are valid. 0 are set, the others have their defaults.\n"


def test_check_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """THREATS 47."""
    client = {"client_id": "b", "redirect_uris": ["https://app.example/"], "client_secret": SECRET}
    for name, value in {
        "idp_client_id": "a",
        "idp_client_secret": SECRET,
        "secret_keys": SECRET,
        "registration": "token",
        "registration_tokens": SECRET,
        "clients": json.dumps([client]),
        "store_url": f"redis://:{SECRET}@127.0.0.1",
        "idp_token_parameters": json.dumps({"client_assertion": SECRET}),
        "idp_authorization_parameters": json.dumps({"api_key": SECRET}),
        "idp_token_url": f"https://idp.example/token?key={SECRET}",
    }.items():
        monkeypatch.setenv(f"SEED_OAUTH_{name.upper()}", value)
    for arguments in ([], ["--all"], ["--json"]):
        shown = run("config", "check", *arguments)
        assert shown.exit_code == 0
        assert SECRET not in shown.output
        for harmless in ("redis://127.0.0.1", "client_assertion", "api_key", "https://idp.example/token?"):
            assert harmless in shown.output


def test_check_fails_if_the_server_would_not_start(file: Path) -> None:
    file.write_text("port = 'x'\nisuer = 'https://door.example'\n")
    with pytest.raises(SettingsError, match="isuer is not a setting"):
        raise run("config", "check", "--config", file).exception  # type: ignore[misc]  # it is one
    file.write_text("port = 'x'\n")
    done = run_command("config", "check", "--config", str(file), folder=file.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"seed-oauth: {file}: port must be a whole number\n"


def test_the_schema_accepts_what_can_be_written_and_refuses_what_cannot() -> None:
    schema = json.loads(run("config", "schema").output)
    validator = jsonschema_rs.Draft202012Validator(schema)
    good = {"issuer": "https://door.example", "workers": 2, "secret_keys_file": "/run/secrets/keys"}
    assert validator.is_valid(good)
    for bad in ({"isuer": "x"}, {"workers": 0}, {"workers": "many"}, {"issuer_file": "x"}, {"flow": "other"}):
        assert not validator.is_valid({**good, **bad})
    assert schema["properties"]["workers"]["description"].startswith("Number of worker processes.")
    assert all("description" in setting for setting in schema["properties"].values())


@pytest.mark.parametrize(
    "command",
    [
        ["clients", "list"],
        ["clients", "show", "x"],
        ["clients", "revoke", "x"],
        ["grants", "list"],
        ["grants", "show", "x"],
        ["grants", "revoke", "x"],
    ],
)
def test_the_commands_for_the_store_use_that_of_the_settings_file(command: list[str], file: Path) -> None:
    file.write_text(f"store_url = 'sqlite:///{file.parent}/none.db'")
    done = run(*command, "--config", file)
    assert done.exit_code == 1
    assert f"there is no store at sqlite:///{file.parent}/none.db" in done.output


def test_the_doctor_examines_the_settings_of_a_file_and_of_an_env_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "seed-oauth.env").write_text("SEED_OAUTH_PORT='x'  # why\nexport SEED_OAUTH_WORKERS=${PORT}\n")
    file.write_text("metrics_port = 'x'")
    done = run("doctor", "--json", "--config", file, "--env-file", tmp_path / "seed-oauth.env")
    assert {finding["text"] for finding in json.loads(done.output)[:-1]} == {
        "SEED_OAUTH_PORT must be a whole number",
        "SEED_OAUTH_WORKERS must be a whole number",  # no variable is replaced in a value
        f"{file}: metrics_port must be a whole number",
    }


def test_the_doctor_knows_that_keys_in_a_file_survive_a_restart(file: Path) -> None:
    for text, status in ((f"secret_keys = '{SECRET}'", "ok"), ("", "warning")):
        file.write_text(text)
        findings = json.loads(run("doctor", "--json", "--config", file).output)
        assert [found["status"] for found in findings if found["check"] == "secret keys"] == [status]


def test_variables_that_are_set_take_precedence_over_an_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").write_text("SEED_OAUTH_PORT=1\nSEED_OAUTH_WORKERS=2\n")
    monkeypatch.setenv("SEED_OAUTH_PORT", "3")
    shown = json.loads(run("config", "check", "--json", "--env-file", tmp_path / "env").output)
    assert {name: setting["value"] for name, setting in shown.items()} == {"port": "3", "workers": "2"}


@pytest.mark.parametrize("content", [None, b"SEED_OAUTH_CONTACT=\xff"])
def test_an_env_file_that_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "env"
    if content is not None:
        path.write_bytes(content)
    done = run("serve", "--env-file", path)
    assert str(done.exception).startswith(f"--env-file {path} cannot be read: ")


@pytest.mark.anyio
async def test_workers_have_the_settings_of_the_file_and_keep_them(tmp_path: Path, file: Path) -> None:
    """A worker that is started later must not have settings that the others do not have."""
    (tmp_path / "keys").write_text(SECRET)
    file.write_text(
        "scopes = ['from-the-file']\nworkers = 2\nsecret_keys_file = 'keys'\nrevoke_before = 2026-01-01T00:00:00Z\n"
    )
    environment = {"SEED_OAUTH_IDP_CLIENT_ID": "a", "SEED_OAUTH_IDP_CLIENT_SECRET_FILE": str(tmp_path / "keys")}
    async with serving(tmp_path, environment, options=["--config", str(file)]) as server:
        file.write_text("none of them")
        (tmp_path / "keys").unlink()
        metadata = await server.http.get(f"{server.url}/.well-known/oauth-authorization-server")
        assert metadata.json()["scopes_supported"] == ["from-the-file"]
        log = await server.stop()
    assert '"workers":2' in log
    assert "worker ended" not in log
