"""The settings of the access tokens that this server issues: unsafe and ambiguous ones are refused at startup."""

import json
from pathlib import Path
from typing import Any

import pytest

from seed_oauth import Settings, SettingsError
from tests.issued_tokens import CALLER_SECRET, EC_PEM, UNUSABLE, ec_pem
from tests.settings.test_mcp_server import GOOD

FILES = {"client_id": "files", "client_secret": CALLER_SECRET}


def test_a_file_has_one_key_or_several_the_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys.pem"
    file.write_text(ec_pem("new") + EC_PEM)
    monkeypatch.setenv("SEED_OAUTH_SIGNING_KEYS_FILE", str(file))
    keys = Settings.load(**GOOD).signing_keys
    assert [key.get_secret_value() for key in keys] == [ec_pem("new").strip(), EC_PEM.strip()]


def test_another_process_gets_the_same_keys_and_callers() -> None:
    given = {"signing_keys": ec_pem("new") + EC_PEM, "introspection_clients": [FILES], "access_token_claims": "email"}
    settings = Settings.load(**GOOD, **given)
    environment = settings.as_environment()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert Settings.load() == settings


@pytest.mark.parametrize("pem", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_key_that_cannot_sign_is_refused_with_its_number_and_how_to_make_another(pem: str) -> None:
    with pytest.raises(
        SettingsError, match=r"SEED_OAUTH_SIGNING_KEYS must be .* number 2 .*: openssl genpkey "
    ) as error:
        Settings.load(**GOOD, signing_keys=EC_PEM + pem)
    assert pem.split("\n")[1] not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"introspection_clients": [{**FILES, "client_secret": "short"}]}, "must be at least 32 random characters"),
        ({"introspection_clients": [{**FILES, "client_secret": "a" * 64}]}, "must be at least 32 random characters"),
        ({"introspection_clients": [{"client_id": "files"}]}, "client_secret is missing"),
        ({"introspection_clients": [{**FILES, "client_id": "a b"}]}, "client_id"),
        ({"introspection_clients": [{**FILES, "scope": "x"}]}, "scope is not known here"),
        ({"introspection_clients": [FILES, FILES]}, "two entries with the same client_id"),
        ({"introspection_clients": "files"}, "must be a JSON list"),
        (
            {"introspection_clients": [FILES], "resources": "https://a.example/mcp https://b.example/mcp"},
            "add the resource to files",
        ),
        ({"introspection_clients": [{**FILES, "resource": "https://c.example"}]}, "is not one of SEED_OAUTH_RESOURCES"),
        ({"introspection_clients": [FILES], "flow": "relay"}, "needs SEED_OAUTH_FLOW=broker"),
        ({"access_token_claims": "email,password"}, "must list some of email, name, groups, tenant"),
    ],
)
def test_what_is_unsafe_or_ambiguous_is_refused_in_plain_words(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load(**GOOD, **given)
    assert message in str(error.value)
    assert CALLER_SECRET not in str(error.value)


def test_a_caller_may_name_its_resource_in_any_spelling() -> None:
    caller = {**FILES, "resource": "https://DOOR.example/mcp/"}
    (read,) = Settings.load(**GOOD, introspection_clients=json.dumps([caller])).introspection_clients
    assert read.resource == caller["resource"]


def test_without_a_key_logins_are_not_configured_and_the_missing_setting_is_named() -> None:
    settings = Settings.load(**GOOD, access_tokens="jwt", idp_client_id="proxy")
    assert settings.missing() == ["SEED_OAUTH_SIGNING_KEYS"]
    assert not settings.can_authorize
    assert not settings.can_exchange
    assert settings.can_check_tokens, "protect() reads the keys from the authorization server"
