"""Each preset against an identity provider that behaves as the real one is documented to (PROTOCOL, last table).

The identity provider judges what it is sent, and refuses as the real one does; every test runs once for each flow.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.outcomes import TokenOutcome
from seed_oauth.presets import PRESETS
from tests.harness import FrontDoor, code_request, form_of, json_of, query_of, refresh_request

pytestmark = pytest.mark.anyio

FLOWS = ["relay"]
"""The broker flow joins when it is there: the same names, the same identity providers."""

RESOURCE = "https://door.example/mcp"
ISSUERS = {
    "entra": "https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0",
    "google": "https://accounts.google.com",
    "okta": "https://dev-1.okta.com/oauth2/default",
    "auth0": "https://tenant.eu.auth0.com/",
    "keycloak": "https://sso.example.com/realms/a",
    "github": "https://github.com/login/oauth",
}
SECRET = "secret of the proxy"

Refusal = str | None
Judge = Callable[[dict[str, str]], Refusal]


class RealisticIdp:
    """Publishes metadata, judges authorization and token requests, and gives tokens to the good ones."""

    def __init__(self, issuer: str, authorize: Judge, token: Judge, **metadata: Any) -> None:
        self.issuer = issuer
        self.judge_authorization = authorize
        self.judge_token = token
        self.metadata = metadata
        self.token_requests: list[httpx.Request] = []
        self.refresh_token: str | None = "rt"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            base = self.issuer.rstrip("/")
            document = {"issuer": self.issuer, "authorization_endpoint": f"{base}/authorize",
                        "token_endpoint": f"{base}/token", "code_challenge_methods_supported": ["S256"],
                        **self.metadata}  # fmt: skip
            return httpx.Response(200, json=document)
        self.token_requests.append(request)
        if error := self.judge_token(form_of(request)):
            return httpx.Response(400, json={"error": error})
        tokens = {"access_token": "at", "token_type": "Bearer", "refresh_token": self.refresh_token}
        return httpx.Response(200, json={name: value for name, value in tokens.items() if value})

    def authorize(self, response: httpx.Response) -> Refusal:
        """What becomes of the browser that the door has sent here; None when it gets a code."""
        query = query_of(response.headers["location"])
        if query["code_challenge_method"] != "S256":
            return "invalid_request"
        return self.judge_authorization(query)


def door_to(idp: RealisticIdp, flow: str, **settings: Any) -> FrontDoor:
    known = {"idp_issuer": idp.issuer, "idp_authorization_url": None, "idp_token_url": None, "idp_revocation_url": None}
    return FrontDoor(idp=idp, settings={"flow": flow, **known, **settings})


async def log_in(door: FrontDoor, idp: RealisticIdp, **asked: str | None) -> tuple[Refusal, dict[str, Any]]:
    """The whole path: what the identity provider says to the browser, and the tokens."""
    refusal = idp.authorize(await door.authorize(resource=RESOURCE, **asked))
    tokens = await door.token(code_request(resource=RESOURCE))
    return refusal, json_of(tokens)


def has_credentials_in_form(form: dict[str, str]) -> bool:
    return (form.get("client_id"), form.get("client_secret")) == ("proxy", SECRET)


@pytest.mark.parametrize("flow", FLOWS)
async def test_entra_refuses_resource_at_authorize_and_token_and_gets_none(flow: str) -> None:
    def judge_token(form: dict[str, str]) -> Refusal:
        return (
            "invalid_client" if not has_credentials_in_form(form) else "invalid_target" if "resource" in form else None
        )

    idp = RealisticIdp(
        ISSUERS["entra"],
        lambda query: "AADSTS901002" if "resource" in query else None,
        judge_token,
        code_challenge_methods_supported=None,
    )
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp)
        assert (refusal, tokens.get("refresh_token")) == (None, "rt")
        assert (await door.token(refresh_request(resource=RESOURCE))).status_code == 200
    async with door_to(idp, flow, idp_preset="none", idp_token_auth_method="client_secret_post") as door:
        refusal, tokens = await log_in(door, idp)
        assert (refusal, tokens["error"]) == ("AADSTS901002", "invalid_target")


@pytest.mark.parametrize("flow", FLOWS)
async def test_google_gives_a_refresh_token_only_when_asked_offline_with_consent(flow: str) -> None:
    idp = RealisticIdp(ISSUERS["google"], lambda _: None, lambda _: None)

    def judge(query: dict[str, str]) -> Refusal:
        asked = query.get("access_type"), query.get("prompt")
        idp.refresh_token = "rt" if asked == ("offline", "consent") else None
        scopes = query.get("scope", "").split()
        return "invalid_scope" if "offline_access" in scopes else "invalid_request" if "resource" in query else None

    idp.judge_authorization = judge
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp, scope="openid")
        assert (refusal, tokens.get("refresh_token")) == (None, "rt")
        assert has_credentials_in_form(form_of(idp.token_requests[0]))
    async with door_to(idp, flow, idp_preset="none", idp_send_resource=False) as door:
        refusal, tokens = await log_in(door, idp, scope="openid")
        assert (refusal, "refresh_token" in tokens) == (None, False)


@pytest.mark.parametrize("flow", FLOWS)
async def test_okta_has_the_audience_in_its_authorization_server_and_gets_no_resource(flow: str) -> None:
    idp = RealisticIdp(
        ISSUERS["okta"],
        lambda query: "invalid_request" if {"resource", "audience"} & query.keys() else None,
        lambda form: "invalid_request" if "resource" in form else None,
    )
    async with door_to(idp, flow) as door:
        assert (await log_in(door, idp))[0] is None
        # An application's default there is client_secret_basic.
        assert idp.token_requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("flow", FLOWS)
async def test_auth0_gets_the_resource_as_audience_also_when_the_client_names_none(flow: str) -> None:
    idp = RealisticIdp(
        ISSUERS["auth0"],
        # Without an audience there is an opaque token, good for nothing here.
        lambda query: None if query.get("audience") == RESOURCE and "resource" not in query else "opaque",
        lambda form: None if has_credentials_in_form(form) else "invalid_client",
    )
    async with door_to(idp, flow) as door:
        assert (await log_in(door, idp))[0] is None
        assert idp.authorize(await door.authorize()) is None


@pytest.mark.parametrize("flow", FLOWS)
async def test_auth0_gets_the_one_resource_that_the_client_names_among_several(flow: str) -> None:
    other = "https://door.example/other"
    idp = RealisticIdp(ISSUERS["auth0"], lambda query: query["audience"], lambda _: None)
    async with door_to(idp, flow, resources=(RESOURCE, other)) as door:
        assert idp.authorize(await door.authorize(resource=other)) == other


@pytest.mark.parametrize("flow", FLOWS)
async def test_keycloak_ignores_what_it_does_not_know_and_authenticates_by_header(flow: str) -> None:
    idp = RealisticIdp(
        ISSUERS["keycloak"], lambda _: None, lambda _: None, authorization_response_iss_parameter_supported=True
    )
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp)
        assert (refusal, tokens.get("refresh_token")) == (None, "rt")
        assert idp.token_requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("flow", FLOWS)
async def test_keycloaks_word_for_a_wrong_client_secret_is_our_trouble(flow: str) -> None:
    settings = {"flow": flow, "idp_preset": "keycloak"}
    answer = httpx.Response(401, json={"error": "unauthorized_client"})
    async with FrontDoor(idp=lambda _: answer, settings=settings) as door:
        assert (await door.token(code_request())).status_code == 502
        assert await door.error_count(TokenOutcome.IDP_REFUSED_OUR_CREDENTIALS) == 1


@pytest.mark.parametrize("flow", FLOWS)
async def test_github_has_no_metadata_to_read_and_answers_200_to_a_bad_code(flow: str) -> None:
    def github(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://github.com/login/oauth/access_token"
        assert has_credentials_in_form(form_of(request))
        assert request.headers["accept"] == "application/json"
        return httpx.Response(200, json={"error": "bad_verification_code", "error_description": "The code passed is …"})

    settings = {"flow": flow, "idp_issuer": ISSUERS["github"], "idp_authorization_url": None, "idp_token_url": None}
    async with FrontDoor(idp=github, settings=settings) as door:
        response = await door.authorize(resource=RESOURCE)
        assert response.headers["location"].startswith("https://github.com/login/oauth/authorize?")
        assert "resource" not in query_of(response.headers["location"])
        token = await door.token(code_request())
        assert (token.status_code, json_of(token)["error"]) == (400, "invalid_grant")
        assert await door.error_count(TokenOutcome.IDP_INVALID_GRANT) == 1
        assert json_of(await door.http.get("/readyz")) == {"status": "ready"}


@pytest.mark.parametrize("flow", FLOWS)
async def test_github_refusing_our_credentials_in_its_own_words_is_our_trouble(flow: str) -> None:
    settings = {"flow": flow, "idp_issuer": ISSUERS["github"]}
    answer = {"error": "incorrect_client_credentials"}
    async with FrontDoor(idp=lambda _: httpx.Response(200, json=answer), settings=settings) as door:
        assert (await door.token(code_request())).status_code == 502
        assert await door.error_count(TokenOutcome.IDP_REFUSED_OUR_CREDENTIALS) == 1


@pytest.mark.parametrize(("name", "issuer"), ISSUERS.items())
def test_each_preset_is_recognised_by_its_issuer(name: str, issuer: str) -> None:
    preset = Settings(idp_issuer=issuer).preset
    assert preset is not None
    assert preset.name == name


@pytest.mark.parametrize(
    "issuer",
    [
        "https://idp.example",
        "https://okta.com.idp.example",
        "https://notokta.com",
        "https://github.com/orgs",
        "https://idp.example/a/realms/b",
    ],
)
def test_other_issuers_have_no_preset(issuer: str) -> None:
    assert Settings(idp_issuer=issuer).preset is None


def test_a_preset_can_be_named_and_switched_off() -> None:
    named = Settings(idp_issuer="https://login.company.example", idp_preset="auth0")
    assert named.idp_resource_parameters == ("audience",)
    unnamed = Settings(idp_issuer=ISSUERS["auth0"], idp_preset="none")
    assert (unnamed.preset, dict(unnamed.idp_authorization_parameters)) == (None, {})


def test_a_preset_is_told_to_other_processes_with_the_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(idp_issuer=ISSUERS["google"], idp_scopes=())
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings
    assert Settings.load().idp_scopes == ()


def test_what_is_set_goes_before_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_IDP_ISSUER", ISSUERS["google"])
    monkeypatch.setenv("SEED_OAUTH_IDP_SCOPES", "openid email")
    monkeypatch.setenv("SEED_OAUTH_IDP_DROPPED_SCOPES", "")
    monkeypatch.setenv("SEED_OAUTH_IDP_SEND_RESOURCE", "true")
    monkeypatch.setenv("SEED_OAUTH_IDP_AUTHORIZATION_PARAMETERS", '{"prompt": "select_account", "hd": "example.com"}')
    settings = Settings.load(access_tokens="auto")
    assert settings.idp_scopes == ("openid", "email")
    assert settings.idp_dropped_scopes == ()
    assert settings.idp_send_resource
    assert settings.access_tokens == "auto"
    # Parameters are added to each other: a hosted domain must not cost the refresh token.
    assert settings.idp_authorization_parameters == {
        "access_type": "offline",
        "prompt": "select_account",
        "hd": "example.com",
    }


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_consists_of_settings_that_are_valid(preset: Any) -> None:
    settings = Settings(idp_issuer=ISSUERS[preset.name])
    for name, value in preset.defaults.items():
        assert getattr(settings, name) == value


def test_the_names_that_can_be_set_are_those_of_the_presets() -> None:
    names = get_args(Settings.model_fields["idp_preset"].annotation)
    assert set(names) == {"auto", "none", *(preset.name for preset in PRESETS)}
    assert set(ISSUERS) == {preset.name for preset in PRESETS}


def test_every_fact_has_its_source() -> None:
    source = (Path(__file__).parents[1] / "src/seed_oauth/presets.py").read_text()
    for block in source.split(" = Preset(")[1:]:
        assert "https://" in block.split("PRESETS =")[0]
        assert "# " in block
