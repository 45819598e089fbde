import json
import re
from typing import Any

import pytest
from joserfc.jwk import ECKey
from pydantic import SecretStr

from seed_oauth import Settings, SettingsError
from seed_oauth.settings.preregistered import PreregisteredClient

SECRET = "0123456789abcdef0123456789ABCDEF"
KEY = ECKey.generate_key("P-256")
PUBLIC_JWKS = {"keys": [KEY.as_dict(private=False)]}
PRIVATE_JWKS = {"keys": [KEY.as_dict(private=True)]}


def client(**changes: Any) -> dict[str, Any]:
    """A valid pre-registered client, apart from `changes`."""
    return {"client_id": "a", "redirect_uris": ["https://app.example/"], **changes}


def test_the_defaults_bind_to_loopback_and_name_the_issuer_after_it() -> None:
    settings = Settings.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 9464)
    assert settings.issuer == "http://127.0.0.1:8000"
    assert Settings.load(host="::1", port=1).issuer == "http://[::1]:1"
    assert settings.protected_resources == ("http://127.0.0.1:8000/mcp",)


def test_a_loopback_issuer_gets_a_random_key_and_its_workers_the_same_one() -> None:
    """THREATS 20: a constant default key would be public."""
    settings = Settings.load()
    assert settings.secret_keys != Settings.load().secret_keys
    variables = settings.as_environment()
    assert variables["SEED_OAUTH_SECRET_KEYS"] == settings.secret_keys[0].get_secret_value()
    assert Settings.load(issuer="https://door.example", flow="relay").secret_keys == ()  # it needs no keys


def test_missing_settings_that_logins_need_are_named() -> None:
    assert Settings.load().missing() == ["SEED_OAUTH_IDP_ISSUER", "SEED_OAUTH_IDP_CLIENT_ID"]
    one_url = Settings.load(idp_client_id="a", idp_authorization_url="https://idp.example/authorize")
    assert one_url.missing() == ["SEED_OAUTH_IDP_TOKEN_URL"]
    assert Settings.load(idp_client_id="a", idp_issuer="https://idp.example").missing() == []


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_ISSUER", "https://door.example/tenant")
    monkeypatch.setenv("SEED_OAUTH_SECRET_KEYS", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("SEED_OAUTH_RESOURCES", "https://a.example/mcp, https://b.example/mcp")
    monkeypatch.setenv("SEED_OAUTH_SCOPES", "mail files")
    monkeypatch.setenv("SEED_OAUTH_IDP_AUTHORIZATION_PARAMETERS", '{"access_type": "offline"}')
    monkeypatch.setenv("SEED_OAUTH_IDP_REVOCATION_URL", "")
    settings = Settings.load()
    assert settings.issuer_path == "/tenant"
    assert settings.protected_resources == ("https://a.example/mcp", "https://b.example/mcp")
    assert settings.scopes == ("mail", "files")
    assert settings.idp_authorization_parameters == {"access_type": "offline"}
    assert settings.idp_revocation_url is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"issuer": "http://door.example"}, "SEED_OAUTH_ISSUER must use https"),
        ({"issuer": "https://door.example/"}, "SEED_OAUTH_ISSUER must not end with a slash"),
        ({"issuer": "https://door.example?a=1"}, "SEED_OAUTH_ISSUER must not have a query"),
        ({"issuer": "https://door.example#a"}, "SEED_OAUTH_ISSUER must not have a fragment"),
        ({"issuer": "https://me@door.example"}, "SEED_OAUTH_ISSUER must not have a fragment"),
        ({"issuer": "door.example"}, "SEED_OAUTH_ISSUER must be an absolute URL"),
        ({"issuer": "https://[::1"}, "SEED_OAUTH_ISSUER is not a URL"),
        ({"issuer": "https://door%2eexample"}, "SEED_OAUTH_ISSUER must have a host in ASCII"),
        ({"issuer": "https://d\u00f6r.example"}, "SEED_OAUTH_ISSUER must be plain ASCII"),
        ({"idp_token_url": "https://idp.example%E3%80%82evil.example/"}, "SEED_OAUTH_IDP_TOKEN_URL must have a host"),
        ({"host": "0.0.0.0"}, "SEED_OAUTH_ISSUER is missing"),  # noqa: S104 - what is refused
        ({"port": 9464}, "SEED_OAUTH_METRICS_PORT must differ from SEED_OAUTH_PORT"),
        ({"port": 70_000}, "SEED_OAUTH_PORT must be at most 65535"),
        ({"flow": "other"}, "SEED_OAUTH_FLOW must be 'broker' or 'relay'"),
        ({"issuer": "https://door.example"}, "SEED_OAUTH_SECRET_KEYS is missing"),
        ({"idp_issuer": "https://idp.example/?a=1"}, "SEED_OAUTH_IDP_ISSUER must not have a query"),
        ({"idp_issuer": "http://idp.example"}, "SEED_OAUTH_IDP_ISSUER must use https"),
        ({"idp_preset": "ping"}, "SEED_OAUTH_IDP_PRESET must be 'auto'"),
        ({"idp_scopes": 'open"id'}, "SEED_OAUTH_IDP_SCOPES must be a list of scopes"),
        ({"idp_token_url": "http://idp.example/token"}, "SEED_OAUTH_IDP_TOKEN_URL must use https"),
        ({"idp_authorization_url": "https://idp.example/?state=x"}, "must not set state"),
        ({"idp_token_parameters": {"code": "x", "scope": "y"}}, "must not set code, scope"),
        (
            {"idp_client_secret": "x"},
            "SEED_OAUTH_IDP_CLIENT_ID is missing: set it together with SEED_OAUTH_IDP_CLIENT_SECRET",
        ),
        ({"idp_timeout": 0}, "SEED_OAUTH_IDP_TIMEOUT must be greater than 0"),
        ({"resources": "mcp"}, "SEED_OAUTH_RESOURCES must be an absolute URL"),
        ({"scopes": "mail offline_access"}, "SEED_OAUTH_SCOPES must not contain offline_access"),
        ({"private_use_schemes": "javascript"}, "SEED_OAUTH_PRIVATE_USE_SCHEMES must not contain javascript"),
        ({"secret_keys": "short"}, "SEED_OAUTH_SECRET_KEYS must have at least 32 random characters"),
        ({"secret_keys": "a" * 40}, "SEED_OAUTH_SECRET_KEYS must have at least 32 random characters"),
        ({"store_url": "postgres://x"}, "SEED_OAUTH_STORE_URL must be sqlite:///file"),
        ({"store_url": "sqlite:///:memory:", "workers": 2}, "SEED_OAUTH_STORE_URL must be a file or Redis"),
        ({"client_days": 0}, "SEED_OAUTH_CLIENT_DAYS must be greater than 0"),
        (
            {"client_documents_on_loopback": True, "issuer": "https://door.example", "flow": "relay"},
            "SEED_OAUTH_CLIENT_DOCUMENTS_ON_LOOPBACK is for development",
        ),
        ({"clients": "{"}, "SEED_OAUTH_CLIENTS must be a JSON list"),
        ({"clients": "{}"}, "SEED_OAUTH_CLIENTS must be a JSON list"),
        ({"clients": [{}]}, "SEED_OAUTH_CLIENTS[0] client_id is missing"),
        ({"clients": [client(client_id="")]}, "SEED_OAUTH_CLIENTS[0] client_id must be printable ASCII"),
        ({"clients": [client(client_id="a b")]}, "SEED_OAUTH_CLIENTS[0] client_id must be printable ASCII"),
        ({"clients": [client(redirect_uris=[])]}, "SEED_OAUTH_CLIENTS[0] redirect_uris must have at least 1 entry"),
        (
            {"clients": [client(), client(client_id="b", redirect_uris=["http://app.example/"])]},
            "SEED_OAUTH_CLIENTS redirect_uri of client b must use https",
        ),
        (
            {"clients": [client(redirect_uris=["http://localhost:8000/oauth/callback"])]},
            "SEED_OAUTH_CLIENTS redirect_uri of client a must not be at this server itself",
        ),
        ({"clients": [client(), client()]}, "SEED_OAUTH_CLIENTS must not have two clients with the same client_id"),
        ({"clients": [client(client_secret="hunter2")]}, "client_secret must be at least 32 random characters"),
        ({"clients": [client(client_secret="a" * 40)]}, "client_secret must be at least 32 random characters"),
        (
            {"clients": [client(token_endpoint_auth_method="client_secret_post")]},
            "client_secret does not match token_endpoint_auth_method client_secret_post: add or remove it",
        ),
        (
            {"clients": [client(token_endpoint_auth_method="none", client_secret=SECRET)]},
            "client_secret does not match token_endpoint_auth_method none: add or remove it",
        ),
        ({"clients": [client(token_endpoint_auth_method="tls_client_auth")]}, "must be 'none'"),
        (
            {"clients": [client(token_endpoint_auth_method="private_key_jwt")]},
            "jwks does not match token_endpoint_auth_method private_key_jwt: add or remove it",
        ),
        ({"clients": [client(jwks={"keys": []})]}, "SEED_OAUTH_CLIENTS[0] jwks has no usable key"),
        ({"clients": [client(jwks=PRIVATE_JWKS)]}, "SEED_OAUTH_CLIENTS[0] jwks must have public keys only"),
        ({"clients": [client(scope="a  b")]}, "SEED_OAUTH_CLIENTS[0] scope must be a list of scopes"),
        (
            {"clients": [client(client_name="a\nb")]},
            "SEED_OAUTH_CLIENTS[0] client_name must have printable characters only",
        ),
        ({"clients": [client(redirect_uri="x")]}, "SEED_OAUTH_CLIENTS[0] redirect_uri is not known here: remove it"),
        ({"store_url": "sqlite:///"}, "SEED_OAUTH_STORE_URL must be sqlite:///file"),
        # Other spellings of an issuer, which clients compare byte for byte.
        ({"issuer": "https://Door.example"}, "SEED_OAUTH_ISSUER must have a scheme and host in lower case"),
        ({"issuer": "HTTPS://door.example"}, "SEED_OAUTH_ISSUER must have a scheme and host in lower case"),
        ({"issuer": "https://door.example:443"}, "SEED_OAUTH_ISSUER must have a scheme and host in lower case"),
        ({"issuer": "http://127.0.0.1:80"}, "SEED_OAUTH_ISSUER must have a scheme and host in lower case"),
        ({"issuer": " https://door.example"}, "SEED_OAUTH_ISSUER must be plain ASCII without spaces"),
        ({"issuer": "https://door.example "}, "SEED_OAUTH_ISSUER must be plain ASCII without spaces"),
        ({"issuer": "https://door.example/a b"}, "SEED_OAUTH_ISSUER must be plain ASCII without spaces"),
        ({"issuer": "https://door.example\n"}, "SEED_OAUTH_ISSUER must be plain ASCII without spaces"),
        # They end up in header fields, and made /mcp a 500.
        ({"issuer": "https://пример.рф"}, "SEED_OAUTH_ISSUER must be plain ASCII without spaces: write a host name in"),
        ({"resources": "https://пример.рф/mcp"}, "must be plain ASCII without spaces"),
        ({"resources": "https://a.example/ключ"}, "must be plain ASCII without spaces"),
        ({"idp_issuer": "https://пример.рф"}, "SEED_OAUTH_IDP_ISSUER must be plain ASCII"),
        ({"idp_issuer": "http://127.0.0.1:8000"}, "SEED_OAUTH_IDP_ISSUER is the URL of this server"),
        ({"idp_issuer": "http://127.0.0.1:8000/"}, "SEED_OAUTH_IDP_ISSUER is the URL of this server"),
        (
            {
                "idp_authorization_url": "https://idp.example/a?prompt=login&tenant=1",
                "idp_authorization_parameters": {"prompt": "consent", "access_type": "offline"},
            },
            "SEED_OAUTH_IDP_AUTHORIZATION_PARAMETERS and the query of SEED_OAUTH_IDP_AUTHORIZATION_URL both set prompt",
        ),
        (
            {"required_scopes": "mail openid", "idp_dropped_scopes": "openid"},
            "SEED_OAUTH_REQUIRED_SCOPES lists openid, which SEED_OAUTH_IDP_DROPPED_SCOPES or the preset never requests",
        ),
        (
            {"resources": "https://a.example/mcp https://A.example/mcp/?tenant=2"},
            "SEED_OAUTH_RESOURCES names one resource twice",
        ),
        (
            {"mcp_server": "http://127.0.0.1:9000/mcp,http://127.0.0.1:9001/mcp", "access_tokens": "own"},
            "SEED_OAUTH_MCP_SERVER must be the URL of one MCP server",
        ),
        (
            {"mcp_server": "http://127.0.0.1:9000/mcp http://127.0.0.1:9001/mcp", "access_tokens": "own"},
            "SEED_OAUTH_MCP_SERVER must be the URL of one MCP server",
        ),
        (
            {
                "mcp_server": "http://127.0.0.1:9000/mcp",
                "access_tokens": "own",
                "resources": "http://127.0.0.1:8000/token",
            },
            "SEED_OAUTH_MCP_SERVER: the resource",
        ),
        (
            {"registration": "token"},
            "SEED_OAUTH_REGISTRATION=token and SEED_OAUTH_REGISTRATION_TOKENS only work",
        ),
        ({"registration_tokens": SECRET}, "SEED_OAUTH_REGISTRATION=token and SEED_OAUTH_REGISTRATION_TOKENS only work"),
        (
            {"registration": "token", "registration_tokens": "short"},
            "SEED_OAUTH_REGISTRATION_TOKENS must have at least 32 random",
        ),
        (
            {"registration": "off", "client_id_metadata_documents": False},
            "SEED_OAUTH_REGISTRATION=off leaves no client: add some to SEED_OAUTH_CLIENTS",
        ),
        ({"redirect_hosts": "https://app.example"}, "SEED_OAUTH_REDIRECT_HOSTS must be host names in lower case"),
        ({"client_document_hosts": "*"}, "SEED_OAUTH_CLIENT_DOCUMENT_HOSTS must be host names in lower case"),
        ({"denied_client_document_hosts": "*.*.example"}, "must be host names in lower case"),
        ({"allowed_origins": "https://app.example/"}, "SEED_OAUTH_ALLOWED_ORIGINS must be origins"),
        ({"allowed_origins": "app.example"}, "SEED_OAUTH_ALLOWED_ORIGINS must be origins"),
    ],
)
def test_an_invalid_or_unsafe_setting_is_refused_by_name(given: dict[str, object], message: str) -> None:
    """THREATS 20: including a weak or missing key."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        Settings.load(**given)


def test_a_misspelt_setting_is_refused_with_the_right_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_ISSUR", "https://door.example")
    with pytest.raises(SettingsError, match="SEED_OAUTH_ISSUR is not a setting: did you mean SEED_OAUTH_ISSUER"):
        Settings.load()


def test_an_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_XYZZY", "1")
    with pytest.raises(SettingsError, match="SEED_OAUTH_XYZZY is not a setting: remove it"):
        Settings.load()


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({}, "none"),
        ({"client_secret": SECRET}, "client_secret_basic"),
        ({"client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post"}, "client_secret_post"),
        ({"jwks": PUBLIC_JWKS}, "private_key_jwt"),
    ],
)
def test_the_credentials_of_a_client_determine_its_auth_method(changes: dict[str, Any], method: str) -> None:
    assert Settings.load(clients=[client(**changes)]).clients[0].auth_method == method


def test_preregistered_clients_may_use_allowed_private_use_schemes() -> None:
    clients = [client(redirect_uris=["acme://callback"])]
    assert Settings.load(clients=clients, private_use_schemes="acme").clients
    with pytest.raises(SettingsError, match="redirect_uri"):
        Settings.load(clients=clients)


def test_an_empty_clients_variable_means_no_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_CLIENTS", "")
    assert Settings.load().clients == ()


def test_the_secret_of_a_client_is_neither_shown_nor_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET not in repr(Settings.load(clients=[client(client_secret=SECRET)]))
    monkeypatch.setenv("SEED_OAUTH_CLIENTS", json.dumps([client(client_secret=SECRET, scope="a  b")]))
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert SECRET not in str(refused.value)


def test_a_refused_value_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_IDP_TOKEN_URL", "http://user:hunter2@idp.example/")
    monkeypatch.setenv("SEED_OAUTH_IDP_CLIENT_SECRET", "hunter2")
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)


def test_the_client_secret_does_not_show_in_a_representation() -> None:
    assert "hunter2" not in repr(Settings.load(idp_client_id="a", idp_client_secret="hunter2"))


def test_another_process_reads_the_same_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        issuer="https://door.example",
        secret_keys=(SecretStr("0123456789abcdef0123456789abcdef"),),
        idp_client_id="a",
        idp_client_secret=SecretStr("b"),
        idp_authorization_parameters={"prompt": "consent"},
        scopes=("mail", "files"),
        idp_send_resource=False,
        clients=(
            PreregisteredClient(**client(client_id="b", client_name="Ünï ✓", scope="mail", jwks=PUBLIC_JWKS)),
            PreregisteredClient(**client(client_secret=SECRET, token_endpoint_auth_method="client_secret_post")),
        ),
        client_days=0.5,
        client_id_metadata_documents=False,
        revoke_before="2026-01-31T12:00:00+01:00",  # type: ignore[arg-type]  # as it is written
        port=1,
    )
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings


MALFORMED = ['{"a": ', "{'a': 'b'}", "[1]", '{"a": 1}', "x", "-1", "1.5", "1e999", "nan", "9" * 5000, "\udcff"]


@pytest.mark.parametrize("name", Settings.model_fields)
@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_value_is_one_line_that_names_the_setting_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variable = f"SEED_OAUTH_{name.upper()}"
    monkeypatch.setenv(variable, value)
    try:
        Settings.load()
    except SettingsError as refused:
        text = str(refused)
    else:
        return  # some settings take any text
    assert "\n" not in text
    # Without a loopback address there is no default issuer; a client secret belongs to a client_id.
    assert variable in text or (name == "host" and "SEED_OAUTH_HOST" in text)
    assert not re.search("Input|valid integer|dictionary|tuple|parse", text)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("IDP_TOKEN_PARAMETERS", "audience=x", 'must be a JSON object: {"name": "value"}'),
        ("IDP_AUTHORIZATION_PARAMETERS", '{"max_age": 0}', "max_age must be text in quotation marks"),
        ("CLIENTS", "[1]", '[0] must be a JSON object: {"name": "value"}'),
        ("PORT", "eighty", "must be a whole number"),
        ("WORKERS", "2.5", "must be a whole number"),
        ("IDP_TIMEOUT", "10s", "must be a number"),
        ("IDP_SEND_RESOURCE", "maybe", "must be true or false"),
    ],
)
def test_the_message_says_what_to_write(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"SEED_OAUTH_{variable}", value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert str(refused.value).removeprefix(f"SEED_OAUTH_{variable}").strip() == message


@pytest.mark.parametrize("text", ["2020-01-31T12:00:00Z", "2020-01-31T13:00:00+01:00", "2020-01-31 12:00+00:00"])
def test_a_time_before_which_everything_is_revoked_is_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_REVOKE_BEFORE", text)
    assert Settings.load().revoke_before == 1_580_472_000


def test_no_such_time_revokes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_REVOKE_BEFORE", "")
    assert Settings.load().revoke_before is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2020-01-31T12:00:00", "with a time zone"),
        ("2020-01-31", "with a time zone"),
        ("yesterday", "with a time zone"),
        ("1580472000", "with a time zone"),
        ("9999-01-01T00:00:00Z", "must not be in the future"),
    ],
)
def test_a_time_that_is_not_clear_or_still_to_come_is_refused(
    text: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a time in the future nobody could log in."""
    monkeypatch.setenv("SEED_OAUTH_REVOKE_BEFORE", text)
    with pytest.raises(SettingsError, match=f"SEED_OAUTH_REVOKE_BEFORE must .*{why}|REVOKE_BEFORE {why}"):
        Settings.load()
