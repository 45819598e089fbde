"""Each preset against an identity provider that behaves as documented (docs/how-to/identity-providers).

The identity provider judges what it is sent, and refuses as the real one does. What scopes are asked for and which
access token the client gets is the broker flow's to decide; all else is the same in both flows.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.outcomes import CallbackOutcome, TokenOutcome
from seed_oauth.settings.presets import PRESETS
from tests.broker import BrokerDoor, access_jwt, jwt_of
from tests.harness import SETTINGS, code_request, form_of, json_of, query_of, refresh_request, sealer_of

pytestmark = pytest.mark.anyio

FLOWS = ["relay", "broker"]

RESOURCE = "https://door.example/mcp"
ISSUERS = {
    "entra": "https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0",
    "google": "https://accounts.google.com",
    "okta": "https://dev-1.okta.com/oauth2/default",
    "auth0": "https://tenant.eu.auth0.com/",
    "keycloak": "https://sso.example.com/realms/a",
    "github": "https://github.com/login/oauth",
    "b2c": "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_sign_in/v2.0",
    "cognito": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE",
    "authentik": "https://sso.example.com/application/o/mcp/",
    "zitadel": "https://instance.zitadel.cloud",
}
SECRET = "secret of the proxy"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of personal Microsoft accounts."""
ACCEPTED = {"code": "the code"}

Refusal = str | None
Judge = Callable[[dict[str, str]], Refusal]


class RealisticIdp:
    """Publishes metadata, validates authorization and token requests, and issues tokens."""

    def __init__(self, issuer: str, authorize: Judge, token: Judge, **metadata: Any) -> None:
        self.issuer = issuer
        self.judge_authorization = authorize
        self.judge_token = token
        self.metadata = metadata
        self.token_requests: list[httpx.Request] = []
        self.tokens: dict[str, object] = {"access_token": "at", "token_type": "Bearer", "refresh_token": "rt"}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if str(request.url) == "https://api.github.com/user":
            return httpx.Response(200, json={"id": 583231, "login": "octocat"})
        if request.method == "GET":
            base = self.issuer.rstrip("/")
            document = {"issuer": self.issuer, "authorization_endpoint": f"{base}/authorize",
                        "token_endpoint": f"{base}/token", "code_challenge_methods_supported": ["S256"],
                        **self.metadata}  # fmt: skip
            return httpx.Response(200, json=document)
        self.token_requests.append(request)
        if error := self.judge_token(form_of(request)):
            return httpx.Response(400, json={"error": error})
        return httpx.Response(200, json=self.tokens)

    def authorize(self, query: dict[str, str]) -> Refusal:
        """The error for an authorization request; None if it gets a code."""
        if query["code_challenge_method"] != "S256":
            return "invalid_request"
        if "openid" in query.get("scope", "").split():
            issuer = self.metadata.get("issuer", self.issuer).replace("{tenantid}", PERSONAL)
            self.tokens["id_token"] = jwt_of(
                {"iss": issuer, "aud": "proxy", "exp": 2**33, "sub": "somebody", "nonce": query.get("nonce"),
                 "tid": PERSONAL}
            )  # fmt: skip
        return self.judge_authorization(query)


def door_to(idp: Any, flow: str, **settings: Any) -> BrokerDoor:
    """A front door in either flow, with the issuer as the only setting of the identity provider."""
    issuer = getattr(idp, "issuer", None)
    known = {"idp_issuer": issuer, "idp_authorization_url": None, "idp_token_url": None, "idp_revocation_url": None,
             "allow_everybody": True}  # fmt: skip
    return BrokerDoor(idp=idp, settings={"flow": flow, **known, **settings})


async def asked_of_idp(door: BrokerDoor, **asked: str | None) -> dict[str, str]:
    """The authorization request that the identity provider receives."""
    return query_of(await door.person.reaches_idp(**asked))


async def code_for_client(door: BrokerDoor, asked: Mapping[str, str], answer: Mapping[str, str] = ACCEPTED) -> str:
    """The code that the client receives for this response: the original one, or in an envelope."""
    if door.settings["flow"] == "relay":
        return answer["code"]
    returned = await door.person.returns(state=asked["state"], **answer)
    return query_of(returned.headers["location"])["code"]


async def error_for_client(door: BrokerDoor, asked: Mapping[str, str], row: str) -> str:
    """The error that the client gets for a code which the identity provider does not take: counted as this row."""
    if door.settings["flow"] == "relay":
        response = await door.token(code_request(code=ACCEPTED["code"]))
        assert await door.error_count(TokenOutcome[row]) == 1
        return str(json_of(response)["error"])
    returned = await door.person.returns(state=asked["state"], **ACCEPTED)
    assert await door.error_count(CallbackOutcome[row]) == 1
    return query_of(returned.headers["location"])["error"]


async def log_in(
    door: BrokerDoor, idp: RealisticIdp, answer: Mapping[str, str] = ACCEPTED, **asked: str | None
) -> tuple[Refusal, dict[str, Any]]:
    """A complete login: the response of the identity provider, and the tokens."""
    query = await asked_of_idp(door, resource=RESOURCE, **asked)
    refusal = idp.authorize(query)
    code = await code_for_client(door, query, answer)
    return refusal, json_of(await door.token(code_request(code=code, resource=RESOURCE)))


async def refreshed(door: BrokerDoor, tokens: Mapping[str, str]) -> dict[str, Any]:
    """The tokens of a successful refresh."""
    response = await door.token(refresh_request(refresh_token=tokens["refresh_token"], resource=RESOURCE))
    assert response.status_code == 200
    return json_of(response)


def is_ours(door: BrokerDoor, token: str, idp: str) -> bool:
    """Whether an access token is of the front door, for the resource, and contains the identity provider's."""
    if token == idp:
        return False
    opened = AccessToken.opened(sealer_of(Settings(**{**SETTINGS, **door.settings})), token, door.now())
    return (opened.resource, opened.idp_access_token) == (RESOURCE, idp)


def has_credentials_in_form(form: Mapping[str, str]) -> bool:
    return (form.get("client_id"), form.get("client_secret")) == ("proxy", SECRET)


@pytest.mark.parametrize("flow", FLOWS)
async def test_entra_is_sent_no_resource_at_authorize_and_token(flow: str) -> None:
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
        assert (refusal, "refresh_token" in tokens) == (None, True)
        await refreshed(door, tokens)
    async with door_to(idp, flow, idp_preset="none", idp_token_auth_method="client_secret_post") as door:
        query = await asked_of_idp(door, resource=RESOURCE)
        assert idp.authorize(query) == "AADSTS901002"
        if flow == "relay":
            token = await door.token(code_request(code="the code", resource=RESOURCE))
            assert json_of(token)["error"] == "invalid_target"
        else:
            assert await error_for_client(door, query, "IDP_INVALID_TARGET") == "invalid_target"


async def test_entra_gets_the_scopes_required_for_login_and_refresh_tokens() -> None:
    """An access token for another resource, such as Microsoft Graph, is not passed to the client."""
    idp = RealisticIdp(ISSUERS["entra"], lambda query: None if "scope" in query else "AADSTS900144", lambda _: None)
    graph = access_jwt(iss=idp.issuer, aud="00000003-0000-0000-c000-000000000000")
    idp.tokens |= {"access_token": graph, "scope": "openid profile email offline_access"}
    async with door_to(idp, "broker") as door:
        query = await asked_of_idp(door)
        assert query["scope"] == "openid offline_access"
        refusal, tokens = await log_in(door, idp)
        assert (refusal, is_ours(door, tokens["access_token"], graph)) == (None, True)
        # The additional scopes are not reported to the client.
        assert tokens["scope"] == "profile email"
        assert "id_token" not in tokens
        asked = await asked_of_idp(door, scope="api://door/tools openid")
        assert asked["scope"] == "api://door/tools openid offline_access"
    async with door_to(idp, "broker", idp_preset="none") as door:
        assert (await log_in(door, idp))[0] == "AADSTS900144"


@pytest.mark.parametrize("tenant", ["common", "organizations", "consumers"])
async def test_entra_for_several_tenants_may_return_the_issuer_of_the_users_tenant(tenant: str) -> None:
    """RFC 9207 §2.4. The issuer in the metadata is a template."""
    host = "https://login.microsoftonline.com"
    personal = f"{host}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
    published = personal if tenant == "consumers" else f"{host}/{{tenantid}}/v2.0"
    idp = RealisticIdp(f"{host}/{tenant}/v2.0", lambda _: None, lambda _: None)
    idp.metadata["issuer"] = published
    async with door_to(idp, "broker") as door:
        assert "access_token" in (await log_in(door, idp, {**ACCEPTED, "iss": personal}))[1]
        for other in (f"{host}/{tenant}/v2.0", "https://evil.example/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"):
            asked = await asked_of_idp(door)
            assert (await door.person.returns(state=asked["state"], code="x", iss=other)).status_code == 400
        assert await door.error_count(CallbackOutcome.WRONG_ISSUER) == 2


@pytest.mark.parametrize("flow", FLOWS)
async def test_google_issues_a_refresh_token_only_for_offline_access_with_consent(flow: str) -> None:
    idp = RealisticIdp(ISSUERS["google"], lambda _: None, lambda _: None)

    def judge(query: dict[str, str]) -> Refusal:
        idp.tokens.pop("refresh_token", None)
        if (query.get("access_type"), query.get("prompt")) == ("offline", "consent"):
            idp.tokens["refresh_token"] = "rt"
        scopes = query.get("scope", "").split()
        return "invalid_scope" if "offline_access" in scopes else "invalid_request" if "resource" in query else None

    idp.judge_authorization = judge
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp, scope="openid")
        assert (refusal, "refresh_token" in tokens) == (None, True)
        assert has_credentials_in_form(form_of(idp.token_requests[0]))
        # It does not rotate refresh tokens: the existing one remains valid.
        del idp.tokens["refresh_token"]
        await refreshed(door, tokens)
    async with door_to(idp, flow, idp_preset="none", idp_send_resource=False) as door:
        refusal, tokens = await log_in(door, idp, scope="openid")
        assert (refusal, "refresh_token" in tokens) == (None, False)


async def test_google_grants_email_and_profile_by_other_names() -> None:
    idp = RealisticIdp(ISSUERS["google"], lambda _: None, lambda _: None)
    google = "https://www.googleapis.com/auth/"
    idp.tokens |= {"access_token": "ya29.opaque", "scope": f"openid {google}userinfo.email {google}drive"}
    async with door_to(idp, "broker") as door:
        _, tokens = await log_in(door, idp, scope="openid email profile")
    assert tokens["scope"] == "openid email"


async def test_google_is_never_sent_offline_access_and_its_access_token_is_kept() -> None:
    idp = RealisticIdp(
        ISSUERS["google"],
        lambda query: "invalid_scope" if "offline_access" in query.get("scope", "offline_access").split() else None,
        lambda form: "invalid_scope" if "offline_access" in form.get("scope", "").split() else None,
    )
    idp.tokens |= {"access_token": "ya29.opaque", "expires_in": 3599, "scope": "openid"}
    async with door_to(idp, "broker") as door:
        assert (await asked_of_idp(door))["scope"] == "openid"
        refusal, tokens = await log_in(door, idp, scope="openid offline_access")
        assert (refusal, tokens["scope"], tokens["expires_in"]) == (None, "openid", 3599)
        assert is_ours(door, tokens["access_token"], "ya29.opaque")
        # A client may repeat a scope that was dropped.
        form = refresh_request(refresh_token=tokens["refresh_token"], scope="openid offline_access")
        assert is_ours(door, json_of(await door.token(form))["access_token"], "ya29.opaque")
        assert form_of(idp.token_requests[-1])["scope"] == "openid"
        # A JWT is kept too: it is for Google's own APIs.
        idp.tokens["access_token"] = access_jwt(iss=idp.issuer, aud=RESOURCE)
        assert is_ours(door, (await log_in(door, idp))[1]["access_token"], str(idp.tokens["access_token"]))
    async with door_to(idp, "broker", idp_preset="none") as door:
        assert (await log_in(door, idp, scope="openid offline_access"))[0] == "invalid_scope"


@pytest.mark.parametrize("flow", FLOWS)
async def test_okta_is_sent_no_resource(flow: str) -> None:
    idp = RealisticIdp(
        ISSUERS["okta"],
        lambda query: "invalid_request" if {"resource", "audience"} & query.keys() else None,
        lambda form: "invalid_request" if "resource" in form else None,
    )
    idp.tokens["access_token"] = access_jwt(iss=idp.issuer, aud=RESOURCE)
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp)
        assert (refusal, tokens["access_token"]) == (None, idp.tokens["access_token"])
        # Its default is client_secret_basic.
        assert idp.token_requests[0].headers["authorization"].startswith("Basic ")


async def test_okta_is_asked_for_a_refresh_token_and_its_default_audience_is_not_accepted() -> None:
    idp = RealisticIdp(ISSUERS["okta"], lambda _: None, lambda _: None)
    default = access_jwt(iss=idp.issuer, aud="api://default")
    idp.tokens["access_token"] = default
    async with door_to(idp, "broker") as door:
        assert (await asked_of_idp(door, scope="tools"))["scope"] == "tools openid offline_access"
        assert is_ours(door, (await log_in(door, idp))[1]["access_token"], default)


@pytest.mark.parametrize("flow", FLOWS)
async def test_auth0_gets_the_resource_as_audience_also_when_the_client_names_none(flow: str) -> None:
    idp = RealisticIdp(
        ISSUERS["auth0"],
        # Without an audience it issues an opaque token, which cannot be validated.
        lambda query: None if query.get("audience") == RESOURCE and "resource" not in query else "opaque",
        lambda form: None if has_credentials_in_form(form) and "resource" not in form else "invalid_client",
    )
    idp.tokens["access_token"] = access_jwt(iss=idp.issuer, aud=[RESOURCE, f"{ISSUERS['auth0']}userinfo"])
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp)
        assert (refusal, tokens["access_token"]) == (None, idp.tokens["access_token"])
        assert idp.authorize(await asked_of_idp(door)) is None


async def test_auth0_is_asked_for_a_refresh_token_and_its_opaque_access_token_is_kept() -> None:
    idp = RealisticIdp(ISSUERS["auth0"], lambda _: None, lambda _: None)
    async with door_to(idp, "broker") as door:
        assert (await asked_of_idp(door))["scope"] == "openid offline_access"
        assert is_ours(door, (await log_in(door, idp))[1]["access_token"], "at")


@pytest.mark.parametrize("flow", FLOWS)
async def test_auth0_gets_the_requested_resource_out_of_several(flow: str) -> None:
    other = "https://door.example/other"
    idp = RealisticIdp(ISSUERS["auth0"], lambda query: query["audience"], lambda _: None)
    async with door_to(idp, flow, resources=(RESOURCE, other)) as door:
        assert idp.authorize(await asked_of_idp(door, resource=other)) == other


@pytest.mark.parametrize("flow", FLOWS)
async def test_keycloak_ignores_unknown_parameters_and_authenticates_by_header(flow: str) -> None:
    idp = keycloak()
    async with door_to(idp, flow) as door:
        refusal, tokens = await log_in(door, idp, {**ACCEPTED, "iss": idp.issuer})
        assert (refusal, "refresh_token" in tokens) == (None, True)
        assert idp.token_requests[0].headers["authorization"].startswith("Basic ")


async def test_keycloak_creates_no_offline_session_and_its_jwt_for_the_resource_is_passed_through() -> None:
    idp = keycloak()
    async with door_to(idp, "broker") as door:
        asked = await asked_of_idp(door, scope="tools offline_access")
        assert (asked["scope"], asked["resource"]) == ("tools openid", RESOURCE)
        for_us, for_another = (
            access_jwt(iss=idp.issuer, aud=audience) for audience in ([RESOURCE, "account"], "account")
        )
        idp.tokens["access_token"] = for_us
        returned = {**ACCEPTED, "iss": idp.issuer}
        assert (await log_in(door, idp, returned))[1]["access_token"] == for_us
        idp.tokens["access_token"] = for_another
        assert is_ours(door, (await log_in(door, idp, returned))[1]["access_token"], for_another)


@pytest.mark.parametrize("answer", [ACCEPTED, {**ACCEPTED, "iss": "https://sso.example.com/realms/b"}])
async def test_keycloak_returns_its_issuer_and_another_one_is_refused(answer: dict[str, str]) -> None:
    """THREATS 6 (RFC 9207 §2.4): Keycloak's metadata announces `iss`."""
    async with door_to(keycloak(), "broker") as door:
        asked = await asked_of_idp(door)
        assert (await door.person.returns(state=asked["state"], **answer)).status_code == 400
        assert await door.error_count(CallbackOutcome.WRONG_ISSUER) == 1


def keycloak() -> RealisticIdp:
    return RealisticIdp(
        ISSUERS["keycloak"], lambda _: None, lambda _: None, authorization_response_iss_parameter_supported=True
    )


@pytest.mark.parametrize("flow", FLOWS)
async def test_keycloaks_error_for_a_wrong_client_secret_is_a_server_error(flow: str) -> None:
    settings = {"flow": flow, "idp_preset": "keycloak"}
    answer = httpx.Response(401, json={"error": "unauthorized_client"})
    async with BrokerDoor(idp=lambda _: answer, settings=settings) as door:
        error = await error_for_client(door, await asked_of_idp(door), "IDP_REFUSED_OUR_CREDENTIALS")
        assert error == "server_error"


@pytest.mark.parametrize("flow", FLOWS)
async def test_github_has_no_metadata_and_responds_200_to_a_bad_code(flow: str) -> None:
    def github(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://github.com/login/oauth/access_token"
        assert has_credentials_in_form(form_of(request))
        assert request.headers["accept"] == "application/json"
        return httpx.Response(200, json={"error": "bad_verification_code", "error_description": "The code passed is …"})

    async with door_to(github, flow, idp_issuer=ISSUERS["github"]) as door:
        onward = await door.person.reaches_idp(resource=RESOURCE)
        assert onward.startswith("https://github.com/login/oauth/authorize?")
        assert "resource" not in query_of(onward)
        error = await error_for_client(door, query_of(onward), "IDP_INVALID_GRANT")
        assert error == ("invalid_grant" if flow == "relay" else "access_denied")
        assert json_of(await door.http.get("/readyz")) == {"status": "ready"}


@pytest.mark.parametrize("flow", FLOWS)
async def test_githubs_error_for_wrong_credentials_is_a_server_error(flow: str) -> None:
    answer = {"error": "incorrect_client_credentials"}
    async with door_to(lambda _: httpx.Response(200, json=answer), flow, idp_issuer=ISSUERS["github"]) as door:
        error = await error_for_client(door, await asked_of_idp(door), "IDP_REFUSED_OUR_CREDENTIALS")
        assert error == "server_error"


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("said", "told"), [("repo,gist", "repo gist"), ("repo", "repo"), (None, None)])
async def test_githubs_comma_separated_scopes_are_converted_to_spaces(
    flow: str, said: str | None, told: str | None
) -> None:
    """RFC 6749 §3.3."""
    idp = RealisticIdp(ISSUERS["github"], lambda _: None, lambda _: None)
    idp.tokens |= {"scope": said}
    async with door_to(idp, flow) as door:
        _, tokens = await log_in(door, idp)
        assert tokens.get("scope") == told
        assert (await refreshed(door, tokens)).get("scope") == told


@pytest.mark.parametrize("flow", FLOWS)
async def test_a_comma_in_a_scope_of_other_identity_providers_is_kept(flow: str) -> None:
    idp = keycloak()
    idp.tokens |= {"scope": "urn:a,b c"}
    async with door_to(idp, flow) as door:
        assert (await log_in(door, idp, {**ACCEPTED, "iss": idp.issuer}))[1]["scope"] == "urn:a,b c"


async def test_github_is_sent_no_openid_scope_and_its_opaque_token_is_replaced() -> None:
    idp = RealisticIdp(ISSUERS["github"], lambda _: None, lambda _: None)
    # OAuth apps there get no refresh tokens, and access tokens without expiry.
    idp.tokens = {"access_token": "gho_opaque", "token_type": "bearer", "scope": "repo"}
    async with door_to(idp, "broker") as door:
        assert "scope" not in await asked_of_idp(door, scope="openid profile email offline_access")
        assert (await asked_of_idp(door, scope="openid repo"))["scope"] == "repo"
        refusal, tokens = await log_in(door, idp, scope="openid repo")
        assert (refusal, tokens["token_type"], tokens["scope"]) == (None, "Bearer", "repo")
        assert is_ours(door, tokens["access_token"], "gho_opaque")
        assert "refresh_token" not in tokens


@pytest.mark.parametrize(("name", "issuer"), ISSUERS.items())
def test_each_preset_is_recognised_by_its_issuer(name: str, issuer: str) -> None:
    preset = Settings(allow_everybody=True, idp_issuer=issuer).preset
    assert preset is not None
    assert preset.name == name


@pytest.mark.parametrize(
    "issuer",
    [
        "https://idp.example",
        "https://okta.com.idp.example",
        "https://okta-gov.com.idp.example",
        "https://notokta-gov.com",
        "https://b2clogin.com",
        "https://cognito-idp.eu-west-1.amazonaws.com.evil.example/x",
        "https://s3.eu-west-1.amazonaws.com/x",
        "https://sso.example.com/a/application/o/mcp/",
        "https://notokta.com",
        "https://github.com/orgs",
        "https://idp.example/a/realms/b",
    ],
)
def test_other_issuers_have_no_preset(issuer: str) -> None:
    assert Settings(allow_everybody=True, idp_issuer=issuer).preset is None


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        ("https://contoso.ciamlogin.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0", "entra"),
        ("https://agency.okta-gov.com/oauth2/default", "okta"),
        ("https://agency.okta.mil", "okta"),
        ("https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_EXAMPLE", "cognito"),
    ],
)
def test_further_hosts_of_a_provider_have_its_preset(issuer: str, name: str) -> None:
    preset = Settings(allow_everybody=True, idp_issuer=issuer).preset
    assert preset is not None
    assert preset.name == name


def test_a_preset_can_be_named_and_switched_off() -> None:
    named = Settings(allow_everybody=True, idp_issuer="https://login.company.example", idp_preset="auth0")
    assert named.idp_resource_parameters == ("audience",)
    unnamed = Settings(allow_everybody=True, idp_issuer=ISSUERS["auth0"], idp_preset="none")
    assert (unnamed.preset, dict(unnamed.idp_authorization_parameters)) == (None, {})


def test_a_preset_is_passed_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(allow_everybody=True, idp_issuer=ISSUERS["google"], idp_scopes=())
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings
    assert Settings.load().idp_scopes == ()


def test_settings_override_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_IDP_ISSUER", ISSUERS["google"])
    monkeypatch.setenv("SEED_OAUTH_IDP_SCOPES", "openid email")
    monkeypatch.setenv("SEED_OAUTH_IDP_DROPPED_SCOPES", "")
    monkeypatch.setenv("SEED_OAUTH_IDP_SEND_RESOURCE", "true")
    monkeypatch.setenv("SEED_OAUTH_IDP_AUTHORIZATION_PARAMETERS", '{"prompt": "select_account", "hd": "example.com"}')
    settings = Settings.load(access_tokens="auto", allow_everybody=True)
    assert settings.idp_scopes == ("openid", "email")
    assert settings.idp_dropped_scopes == ()
    assert settings.idp_send_resource
    assert settings.access_tokens == "auto"
    # Parameters are merged: setting a hosted domain must not remove those for refresh tokens.
    assert settings.idp_authorization_parameters == {
        "access_type": "offline",
        "prompt": "select_account",
        "hd": "example.com",
    }


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_has_valid_settings(preset: Any) -> None:
    settings = Settings(allow_everybody=True, idp_issuer=ISSUERS[preset.name])
    for name, value in preset.defaults.items():
        assert getattr(settings, name) == value


def test_the_setting_allows_the_names_of_the_presets() -> None:
    names = get_args(Settings.model_fields["idp_preset"].annotation)
    assert set(names) == {"auto", "none", *(preset.name for preset in PRESETS)}
    assert set(ISSUERS) == {preset.name for preset in PRESETS}


def test_every_default_has_a_source() -> None:
    source = (Path(__file__).parents[2] / "src/seed_oauth/settings/presets.py").read_text()
    for block in source.split(" = Preset(")[1:]:
        assert "https://" in block.split("PRESETS =")[0]
        assert "# " in block
