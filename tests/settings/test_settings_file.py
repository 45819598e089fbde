"""The settings file, and secrets that are in files of their own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from seed_oauth import Settings, SettingsError
from seed_oauth.settings.sources import SECRETS

KEY = "0123456789abcdef0123456789ABCDEF"
OTHER_KEY = "ABCDEF0123456789abcdef0123456789"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the settings file."""

    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "seed-oauth.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        monkeypatch.setenv("SEED_OAUTH_CONFIG", str(path))
        return path

    return write


def test_every_kind_of_value_can_be_written_in_the_file(write: Write) -> None:
    write(f"""
        issuer = "https://door.example"
        secret_keys = ["{KEY}", "{OTHER_KEY}"]
        workers = 2
        idp_timeout = 2.5
        idp_send_resource = false
        scopes = ["mail", "files"]
        required_scopes = "mail"
        revoke_before = 2026-01-31T12:00:00Z
        allowed_groups = ["Sales, North"]

        [idp_authorization_parameters]
        access_type = "offline"

        [[clients]]
        client_id = "a"
        redirect_uris = ["https://app.example/"]
    """)
    settings = Settings.load()
    assert settings.issuer == "https://door.example"
    assert settings.secret_keys == (SecretStr(KEY), SecretStr(OTHER_KEY))
    assert (settings.workers, settings.idp_timeout, settings.idp_send_resource) == (2, 2.5, False)
    assert (settings.scopes, settings.required_scopes) == (("mail", "files"), ("mail",))
    assert settings.revoke_before == 1769860800
    assert settings.allowed_groups == ("Sales, North",)
    assert settings.idp_authorization_parameters == {"access_type": "offline"}
    assert [client.client_id for client in settings.clients] == ["a"]


def test_an_environment_variable_takes_precedence_and_an_argument_over_both(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("port = 1\nworkers = 2\nmetrics_port = 3\n[idp_token_parameters]\naudience = 'a'\n")
    monkeypatch.setenv("SEED_OAUTH_PORT", "11")
    monkeypatch.setenv("SEED_OAUTH_WORKERS", "12")
    monkeypatch.setenv("SEED_OAUTH_IDP_TOKEN_PARAMETERS", '{"other": "b"}')
    settings = Settings.load(workers=21)
    assert (settings.port, settings.workers, settings.metrics_port) == (11, 21, 3)
    assert settings.idp_token_parameters == {"other": "b"}  # a table is replaced as a whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("isuer = 'https://door.example'", "{path}: isuer is not a setting: did you mean issuer?"),
        ("idp_client_secret_fil = 'x'", "{path}: idp_client_secret_fil is not a setting: did you mean"),
        ("[zzz]\na = 1", "{path}: zzz is not a setting: remove it"),
        ("SEED_OAUTH_PORT = 1", "{path}: SEED_OAUTH_PORT is not a setting: remove it"),
        ("port = 'x'", "{path}: port must be a whole number"),
        ("port = 1.5", "{path}: port must be a whole number"),
        ("issuer = 1", "{path}: issuer must be text in quotation marks"),
        ("idp_send_resource = 'perhaps'", "{path}: idp_send_resource must be true or false"),
        ("idp_token_parameters = 'x'", "{path}: idp_token_parameters must be a JSON object"),
        ("scopes = 1", "{path}: scopes must be a JSON list"),
        ("[[clients]]\nclient_id = 'a'", "{path}: clients[0] redirect_uris is missing"),
        ("port = ", "{path} is not valid TOML: Invalid value (at"),
        ("port = 1\nport = 2", "{path} is not valid TOML: Cannot overwrite a value"),
        ("registration_tokens_file = '/gone'", "{path}: registration_tokens_file names a file that cannot be read"),
        ("secret_keys = 'x'\nsecret_keys_file = 'x'", "{path}: secret_keys and secret_keys_file are both set"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_file_and_key(write: Write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert message.format(path=path) in str(refused.value)


def test_every_unknown_key_is_named_and_so_is_every_wrong_value(write: Write) -> None:
    path = write("isuer = 'a'\nporte = 1")
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert [line.split(" is ")[0] for line in str(refused.value).splitlines()] == [f"{path}: isuer", f"{path}: porte"]
    path = write("port = 'x'\nworkers = 0")
    with pytest.raises(SettingsError) as refused:
        Settings.load(metrics_port=-1)
    assert {line.split(" must ")[0] for line in str(refused.value).splitlines()} == {
        f"{path}: port",
        f"{path}: workers",
        "SEED_OAUTH_METRICS_PORT",
    }


def test_a_wrong_value_is_named_by_the_source_that_it_comes_from(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("port = 1\nworkers = 1")
    monkeypatch.setenv("SEED_OAUTH_PORT", "x")
    with pytest.raises(SettingsError, match=r"^SEED_OAUTH_PORT must be a whole number$"):
        Settings.load()
    monkeypatch.delenv("SEED_OAUTH_PORT")
    with pytest.raises(SettingsError, match=r"^SEED_OAUTH_WORKERS must be at least 1$"):
        Settings.load(workers=0)


def test_a_file_that_is_missing_or_no_text_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("").write_bytes(b"issuer = '\xff'")
    with pytest.raises(SettingsError, match=r"seed-oauth.toml is not valid TOML"):
        Settings.load()
    monkeypatch.setenv("SEED_OAUTH_CONFIG", "/gone/seed-oauth.toml")
    with pytest.raises(SettingsError, match=r"^the settings file /gone/seed-oauth.toml cannot be read \(No such file"):
        Settings.load()


@pytest.mark.parametrize(
    "secret",
    [
        f"secret_keys = '{KEY}'",
        "idp_client_id = 'a'\nidp_client_secret = 'hunter2'",
        f"registration = 'token'\nregistration_tokens = ['{KEY}']",
        "store_url = 'redis://:hunter2@127.0.0.1'",
        "[idp_token_parameters]\nclient_assertion = 'hunter2'",
        "[idp_authorization_parameters]\napi_key = 'hunter2'",
        f"[[clients]]\nclient_id = 'a'\nredirect_uris = ['https://app.example/']\nclient_secret = '{KEY}'",
    ],
)
def test_a_file_with_a_secret_that_others_can_read_is_refused(write: Write, secret: str) -> None:
    """THREATS 47."""
    write(secret, 0o640)  # of a group, such as that of the server
    Settings.load()
    path = write(secret, 0o604)
    with pytest.raises(SettingsError, match=f"chmod o= {path}") as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)
    assert KEY not in str(refused.value)


def test_a_file_without_secrets_may_be_read_by_everybody(write: Write) -> None:
    write(
        "issuer = 'https://door.example'\nsecret_keys_file = 'keys'\nstore_url = 'redis://127.0.0.1'\n"
        "[[clients]]\nclient_id = 'a'\nredirect_uris = ['https://app.example/']",
        0o644,
    ).with_name("keys").write_text(f"{KEY}\n{OTHER_KEY}\n")
    # A path that is not absolute is one beside the settings file.
    assert Settings.load().secret_keys == (SecretStr(KEY), SecretStr(OTHER_KEY))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("idp_client_secret", "hunter2 with a space, and a comma"),
        ("secret_keys", f"{KEY}\n{OTHER_KEY}"),
        ("registration_tokens", f"{KEY}\n{OTHER_KEY}"),
        ("clients", '[{"client_id": "a",\n "redirect_uris": ["https://app.example/"]}]'),
        ("store_url", "redis://:password@127.0.0.1:6379/0"),
        ("idp_authorization_parameters", '{"api_key":\n "hunter2"}'),
        ("idp_token_parameters", '{"client_assertion": "hunter2"}'),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_the_file_that_a_variable_names(
    name: str, content: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_bytes((content + end).encode())
    others = {"idp_client_id": "a", "registration": "token" if name == "registration_tokens" else "open"}
    expected = Settings.load(**others, **{name: content})
    monkeypatch.setenv(f"SEED_OAUTH_{name.upper()}_FILE", str(path))
    assert getattr(Settings.load(**others), name) == getattr(expected, name)
    assert Settings.origins() == {name: f"SEED_OAUTH_{name.upper()}_FILE"}


def test_the_secrets_are_all_settings_whose_type_is_one_and_those_that_may_contain_one() -> None:
    typed = {name for name, field in Settings.model_fields.items() if "Secret" in repr(field.annotation)}
    may_contain_one = {"store_url", "clients", "introspection_clients"}
    may_contain_one |= {"idp_authorization_parameters", "idp_token_parameters"}
    assert set(SECRETS) == typed | may_contain_one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"SEED_OAUTH_SECRET_KEYS_FILE names a file that cannot be read \(.*: No such file or directory\)"),
        (b"", "SEED_OAUTH_SECRET_KEYS_FILE names a file that is empty"),
        (b"\n", "SEED_OAUTH_SECRET_KEYS_FILE names a file that is empty"),
        (b"\xff", "SEED_OAUTH_SECRET_KEYS_FILE names a file that is not UTF-8 text"),
        (b"short", "^SEED_OAUTH_SECRET_KEYS_FILE must have at least 32 random characters"),
    ],
)
def test_a_file_without_a_usable_secret_is_refused(
    content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS_FILE", str(path))
    with pytest.raises(SettingsError, match=message):
        Settings.load()


def test_a_secret_in_a_variable_and_in_a_file_is_refused_unless_one_of_them_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text(KEY)
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS", OTHER_KEY)
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(SettingsError, match=r"^SEED_OAUTH_SECRET_KEYS and SEED_OAUTH_SECRET_KEYS_FILE are both set"):
        Settings.load()
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS", "")  # as Compose passes on what is not set
    assert Settings.load().secret_keys == (SecretStr(KEY),)
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS_FILE", "")
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS", OTHER_KEY)
    assert Settings.load().secret_keys == (SecretStr(OTHER_KEY),)


def test_an_empty_variable_leaves_the_secret_of_the_settings_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Compose passes on what is not set. Otherwise, the server would silently be a public client."""
    path = write(
        "issuer = 'https://door.example'\nidp_client_id = 'a'\nidp_client_secret_file = 'secret'\n"
        f"secret_keys = '{KEY}'\n[idp_token_parameters]\naudience = 'b'"
    )
    path.with_name("secret").write_text("hunter2")
    for name in ("issuer", *SECRETS):
        monkeypatch.setenv(f"SEED_OAUTH_{name.upper()}", "")
    settings = Settings.load()
    assert settings.issuer == "https://door.example"
    assert settings.idp_client_secret == SecretStr("hunter2")
    assert settings.secret_keys == (SecretStr(KEY),)
    assert settings.idp_token_parameters == {"audience": "b"}
    assert {*Settings.origins().values()} == {str(path)}


def test_a_file_in_a_variable_takes_precedence_over_the_settings_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(f"secret_keys = '{OTHER_KEY}'").with_name("keys")
    path.write_text(KEY)
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS_FILE", str(path))
    assert Settings.load().secret_keys == (SecretStr(KEY),)


def test_only_secrets_can_be_in_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_ISSUER_FILE", os.devnull)
    with pytest.raises(
        SettingsError, match=r"SEED_OAUTH_ISSUER_FILE is not a setting: did you mean SEED_OAUTH_ISSUER\?"
    ):
        Settings.load()
