"""`seed-oauth doctor`: its findings and their remedies."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.cli.doctor import examine
from seed_oauth.cli.doctor.finding import Finding, Status, as_json_text, has_failed
from seed_oauth.server.listener import listen
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from tests.broker import BrokerDoor
from tests.cli.test_cli import free_port
from tests.harness import PUBLIC, form_of, query_of
from tests.http_client.test_transport import answering, listening
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

IDP = "https://idp.example"
DOOR = "https://door.example"
CALLBACK = f"{DOOR}/oauth/callback"
SECRET = "canary-of-the-client-secret"
KEY = "canary-0123456789-abcdefghijklmnop"
NOW = 1_780_000_000.0
DATE = "Thu, 28 May 2026 20:26:40 GMT"  # NOW

Handler = Callable[[httpx.Request], httpx.Response]


class World:
    """The identity provider and the public URL, as one transport."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {
            "issuer": IDP,
            "authorization_endpoint": f"{IDP}/authorize",
            "token_endpoint": f"{IDP}/token",
            "code_challenge_methods_supported": ["S256"],
        }
        self.openid: Handler = lambda _: httpx.Response(200, json=self.metadata, headers={"date": DATE})
        self.oauth: Handler = lambda _: httpx.Response(404)
        self.authorize: Handler = exact_match
        self.token: Handler = lambda _: httpx.Response(400, json={"error": "invalid_grant"})
        self.public: Handler = lambda _: httpx.Response(200, json={"issuer": DOOR})
        self.local: Handler = refused
        self.publishers: Handler = lambda _: httpx.Response(200, json={})
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host in {"127.0.0.1", "::1"}:
            return self.local(request)
        if request.url.host == "door.example":
            return self.public(request)
        paths = {"/authorize": self.authorize, "/token": self.token, "/.well-known/openid-configuration": self.openid}
        return paths.get(request.url.path, self.oauth)(request)


def refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def exact_match(request: httpx.Request) -> httpx.Response:
    """Like oidc-provider, Keycloak and Okta: 400 for an invalid redirect URI, the login for a valid one."""
    if query_of(str(request.url))["redirect_uri"] != CALLBACK:
        return httpx.Response(400, html="<p>Invalid parameter: redirect_uri</p>")
    return httpx.Response(303, headers={"location": f"{IDP}/login"})


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def _a_good_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = {
        "ISSUER": DOOR,
        "SECRET_KEYS": KEY,
        "TRUSTED_PROXIES": "127.0.0.1",
        "IDP_ISSUER": IDP,
        "IDP_CLIENT_ID": "proxy",
        "IDP_CLIENT_SECRET": SECRET,
        "STORE_URL": f"sqlite:///{tmp_path}/clients.db",
        "METRICS_PORT": str(free_port()),
        "PORT": str(free_port()),
    }
    for name, value in good.items():
        monkeypatch.setenv(f"SEED_OAUTH_{name}", value)


async def diagnose(world: World, now: float = NOW, **given: Any) -> list[Finding]:
    findings = await examine(
        transport=httpx.MockTransport(world),
        client_documents=httpx.MockTransport(world.publishers),
        now=lambda: now,
        **given,
    )
    told = as_json_text(findings)
    assert SECRET not in told
    assert KEY not in told
    for finding in findings:
        # Every problem has a remedy.
        assert finding.remedy or finding.status in {Status.OK, Status.SKIPPED}
    return findings


async def finding(world: World, check: str, **given: Any) -> Finding:
    (found,) = [found for found in await diagnose(world, **given) if found.check == check]
    return found


async def test_every_check_passes_in_a_valid_environment(world: World) -> None:
    findings = await diagnose(world)
    assert [(found.check, found.status) for found in findings] == [
        ("settings", "ok"),
        ("secret keys", "ok"),
        ("IdP metadata", "ok"),
        ("issuer", "ok"),
        ("PKCE", "ok"),
        ("redirect URI", "ok"),
        ("credentials", "ok"),
        ("clock", "ok"),
        ("access rules", "ok"),
        ("store", "ok"),
        ("MCP server", "skipped"),
        ("rate limits", "ok"),
        ("metrics port", "ok"),
        ("server metadata", "ok"),
        ("resource", "ok"),
        ("client documents", "ok"),
    ]
    assert not has_failed(findings)


def answers_of_one(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={}) if request.url.host == "vscode.dev" else httpx.Response(403)


def times_out(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow")


@pytest.mark.parametrize(
    ("publishers", "status", "text"),
    [
        (answers_of_one, "ok", "can be fetched"),
        (refused, "warning", "claude.ai cannot be reached; vscode.dev cannot be reached"),
        (times_out, "warning", "claude.ai does not answer"),
        (lambda _: httpx.Response(407), "warning", "claude.ai answers 407"),
    ],
)
async def test_without_egress_to_publishers_the_hosts_and_the_setting_are_named(
    world: World, publishers: Handler, status: str, text: str
) -> None:
    """Claude Code and Codex prefer documents; without egress each login ends with one that cannot be fetched."""
    world.publishers = publishers
    found = await finding(world, "client documents")
    assert (found.status, text in found.text) == (status, True), found.text
    assert ("SEED_OAUTH_CLIENT_ID_METADATA_DOCUMENTS=false" in found.remedy) == (status == "warning")


async def test_where_documents_are_off_nobody_asks_for_them(world: World) -> None:
    world.publishers = refused
    assert (await finding(world, "client documents", client_id_metadata_documents=False)).status == "skipped"


async def test_an_untrusted_reverse_proxy_is_a_warning(world: World) -> None:
    unknown = await finding(world, "rate limits", trusted_proxies=())
    assert unknown.status == "warning"
    assert "set SEED_OAUTH_TRUSTED_PROXIES" in unknown.remedy
    local = await finding(world, "rate limits", trusted_proxies=(), issuer="http://127.0.0.1:8000")
    assert local.status == "ok"


async def test_invalid_settings_are_reported_without_further_checks(world: World) -> None:
    findings = await diagnose(world, idp_token_url="http://idp.example/token", idp_timeout=0)
    assert [found.status for found in findings] == ["failed", "failed", "skipped"]
    assert "SEED_OAUTH_IDP_TOKEN_URL must use https" in findings[0].text
    assert world.requests == []
    assert has_failed(findings)


async def test_missing_settings_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDP_ISSUER", "IDP_CLIENT_ID", "IDP_CLIENT_SECRET"):
        monkeypatch.delenv(f"SEED_OAUTH_{name}")
    findings = await diagnose(world)
    assert findings[0].remedy == "set SEED_OAUTH_IDP_ISSUER and SEED_OAUTH_IDP_CLIENT_ID"
    assert [(found.check, found.status) for found in findings[2:4]] == [
        ("IdP metadata", "skipped"),
        ("identity provider", "skipped"),
    ]


async def test_without_a_client_id_the_metadata_is_still_checked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDP_CLIENT_ID", "IDP_CLIENT_SECRET"):
        monkeypatch.delenv(f"SEED_OAUTH_{name}")
    findings = await diagnose(world)
    assert "SEED_OAUTH_IDP_CLIENT_ID" in findings[0].remedy
    assert [found.check for found in findings[2:6]] == ["IdP metadata", "issuer", "PKCE", "identity provider"]


async def test_a_missing_client_secret_is_a_warning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEED_OAUTH_IDP_CLIENT_SECRET")
    found = await finding(world, "settings")
    assert (found.status, "SEED_OAUTH_IDP_CLIENT_SECRET" in found.remedy) == ("warning", True)


async def test_the_preset_is_named(world: World) -> None:
    assert "preset okta" in (await finding(world, "settings", idp_preset="okta")).text


async def test_a_random_key_is_a_warning_and_the_relay_flow_needs_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEED_OAUTH_SECRET_KEYS")
    random = await finding(world, "secret keys", issuer="http://127.0.0.1:8000")
    assert (random.status, "SEED_OAUTH_SECRET_KEYS" in random.remedy) == ("warning", True)
    assert (await finding(world, "secret keys", flow="relay")).status == "skipped"


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
async def test_an_identity_provider_that_cannot_be_reached_ends_its_checks(world: World, failure: Exception) -> None:
    def fails(_: httpx.Request) -> httpx.Response:
        raise failure

    world.openid = fails
    findings = await diagnose(world)
    assert findings[2].status == "failed"
    assert "HTTPS_PROXY" in findings[2].remedy
    assert (findings[3].check, findings[3].status) == ("identity provider", "skipped")


async def test_metadata_that_is_not_found_points_to_the_issuer_setting(world: World) -> None:
    world.openid = lambda _: httpx.Response(404)
    found = await finding(world, "IdP metadata")
    assert found.status == "failed"
    assert "SEED_OAUTH_IDP_ISSUER" in found.remedy


async def test_a_different_issuer_in_the_metadata_fails_with_its_url(world: World) -> None:
    world.metadata["issuer"] = "https://other.example"
    found = await finding(world, "issuer")
    assert found.status == "failed"
    assert "SEED_OAUTH_IDP_ISSUER" in found.text
    assert f"{IDP}/.well-known/openid-configuration" in found.remedy
    world.metadata["issuer"] = f"{IDP}/"
    assert "must end with a slash" in (await finding(world, "issuer")).text


async def test_unusable_members_of_the_metadata_are_named(world: World) -> None:
    world.metadata["token_endpoint"] = "http://idp.example/token"
    findings = await diagnose(world)
    assert [found.status for found in findings if found.check == "IdP metadata"] == ["ok", "failed"]
    assert "token_endpoint" in findings[3].text


async def test_an_issuer_for_every_tenant_is_a_warning(world: World) -> None:
    issuer = "https://login.microsoftonline.com/common/v2.0"
    world.metadata["issuer"] = "https://login.microsoftonline.com/{tenantid}/v2.0"
    world.oauth = world.openid
    found = await finding(world, "issuer", idp_issuer=issuer, allow_everybody=True)
    assert (found.status, "tenant id" in found.remedy) == ("warning", True)
    found = await finding(world, "issuer", idp_issuer=issuer, allowed_tenants="8eaef023-2b34-4da1-9baa-8bc8c9d6a490")
    assert found.status == "ok"


@pytest.mark.parametrize(
    ("methods", "preset", "status"),
    [
        (["plain", "S256"], "none", "ok"),
        (["plain"], "none", "failed"),
        (None, "none", "cannot tell"),
        (None, "entra", "ok"),
        (None, "okta", "cannot tell"),
    ],
)
async def test_pkce_support_is_read_from_the_metadata_or_the_preset(
    world: World, methods: list[str] | None, preset: str, status: str
) -> None:
    world.metadata["code_challenge_methods_supported"] = methods
    assert (await finding(world, "PKCE", idp_preset=preset)).status == status


def redirects(url: str) -> Handler:
    return lambda _: httpx.Response(302, headers={"location": url})


def for_ours(ours: httpx.Response, other: httpx.Response) -> Handler:
    return lambda request: ours if query_of(str(request.url))["redirect_uri"] == CALLBACK else other


def page(text: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, html=text)


@pytest.mark.parametrize(
    ("authorize", "status", "word"),
    [
        # Keycloak: a login page, or an error page with 400.
        (for_ours(page("Sign in"), page("Invalid parameter: redirect_uri", 400)), "ok", "accepted"),
        (lambda _: page("Invalid parameter: redirect_uri", 400), "failed", f"register {CALLBACK}"),
        # Google redirects to its own page `/error`.
        (redirects("https://accounts.google.com/signin/oauth/error?authError=x"), "failed", f"register {CALLBACK}"),
        (for_ours(httpx.Response(302, headers={"location": f"{IDP}/signin"}),
                  httpx.Response(302, headers={"location": f"{IDP}/signin/oauth/error?a=b"})), "ok", "accepted"),
        # Entra ID responds with an error page of status 200, or checks after the login.
        (lambda _: page("AADSTS50011: The redirect URI … does not match"), "failed", f"register {CALLBACK}"),
        (for_ours(page("Sign in"), page("AADSTS50011: The redirect URI")), "ok", "accepted"),
        (lambda _: page('Sign in <input name="redirect_uri">'), "cannot tell", "try a login"),
        # Text of an error page counts only if the other page does not have it.
        (for_ours(page("Sign in"), page("Wrong redirect_uri")), "ok", "accepted"),
        # GitHub redirects to the login first.
        (redirects("https://github.com/login?return_to=x"), "cannot tell", "in the same way"),
        # Redirected back: the redirect URI is registered, and other errors are reported.
        (redirects(f"{CALLBACK}?code=x"), "ok", "accepted"),
        (redirects(f"{CALLBACK}?error=login_required"), "ok", "accepted"),
        (redirects(f"{CALLBACK}?error=invalid_scope"), "failed", "SEED_OAUTH_IDP_SCOPES"),
        (redirects(f"{CALLBACK}?error=invalid_target"), "failed", "SEED_OAUTH_IDP_SEND_RESOURCE"),
        (redirects(f"{CALLBACK}?error=unauthorized_client"), "failed", "authorization code flow"),
        (lambda _: page("Unknown application", 401), "failed", "SEED_OAUTH_IDP_CLIENT_ID"),
        (lambda _: page("oops", 500), "cannot tell", "later"),
        (lambda _: page("slow down", 429), "cannot tell", "later"),
        (refused, "failed", "SEED_OAUTH_IDP_AUTHORIZATION_URL"),
        (lambda _: page("x" * 200_000), "cannot tell", "try a login"),
    ],
)  # fmt: skip
async def test_the_redirect_uri_is_judged_by_the_response(
    world: World, authorize: Handler, status: str, word: str
) -> None:
    world.authorize = authorize
    found = await finding(world, "redirect URI")
    assert found.status == status
    assert word in f"{found.text} {found.remedy}"


async def test_the_authorization_request_is_complete_and_no_redirect_is_followed(world: World) -> None:
    await diagnose(
        world,
        idp_authorization_parameters={"audience": "{resource}", "prompt": "consent"},
        idp_scopes="openid offline_access",
    )
    asked = [query_of(str(request.url)) for request in world.requests if request.url.path == "/authorize"]
    assert len(asked) == 2
    assert asked[0]["redirect_uri"] == CALLBACK
    assert asked[1]["redirect_uri"].startswith(f"{CALLBACK}-")
    for query in asked:
        assert query["scope"] == "openid offline_access"
        assert query["audience"] == query["resource"] == f"{DOOR}/mcp"
        assert query["code_challenge_method"] == "S256"
        assert (query["client_id"], query["prompt"]) == ("proxy", "consent")
        assert SECRET not in urlencode(query)
    assert "/login" not in [request.url.path for request in world.requests]


OPENID = {
    "scopes_supported": ["openid", "offline_access"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
}


@pytest.mark.parametrize(
    ("metadata", "settings", "scope"),
    [
        ({}, {}, None),
        ({}, {"scopes": "mail files"}, "mail files"),
        (OPENID, {"scopes": "mail"}, "mail openid offline_access"),
        (OPENID, {"scopes": "mail", "idp_dropped_scopes": "offline_access"}, "mail openid"),
        (OPENID, {"scopes": "mail", "idp_scopes": "profile"}, "mail profile"),
    ],
)
async def test_the_authorization_request_is_the_one_that_a_login_sends(
    world: World, metadata: dict[str, Any], settings: dict[str, Any], scope: str | None
) -> None:
    world.metadata |= metadata
    await diagnose(world, **settings)
    asked = next(query_of(str(one.url)) for one in world.requests if one.url.path == "/authorize")
    to_idp: dict[str, Any] = {"idp_authorization_url": None, "idp_token_url": None, "idp_revocation_url": None}
    given = {"idp_issuer": IDP, **to_idp, **settings}
    async with BrokerDoor(idp=lambda _: httpx.Response(200, json=world.metadata), settings=given) as door:
        sent = query_of(await door.person.reaches_idp(scope=settings.get("scopes")))
    assert asked.keys() == sent.keys()
    assert asked.get("scope") == sent.get("scope") == scope
    assert ("nonce" in asked) == ("openid" in (scope or "").split())
    same = asked.keys() - {"state", "nonce", "code_challenge"}
    assert {name: asked[name] for name in same} == {name: sent[name] for name in same}


@pytest.mark.parametrize("error", ["invalid_scope", "unauthorized_client", "invalid_target", "invalid_request"])
async def test_the_words_of_the_identity_provider_are_quoted(world: World, error: str) -> None:
    words = "AADSTS70011: The provided value for 'scope' is not valid.%0d%0aTrace ID: x%1b[2J"
    world.authorize = redirects(f"{CALLBACK}?error={error}&error_description={words}")
    found = await finding(world, "redirect URI")
    assert f"{error}: AADSTS70011: The provided value for 'scope' is not valid. Trace ID: x [2J" in found.text
    world.token = lambda _: httpx.Response(
        401, json={"error": "invalid_client", "error_description": f"AADSTS7000215: bad secret {SECRET}"}
    )
    credentials = await finding(world, "credentials")
    assert "invalid_client: AADSTS7000215: bad secret …" in credentials.text


async def test_a_relay_before_an_identity_provider_that_sends_its_issuer_is_a_warning(world: World) -> None:
    """RFC 9207 §2.4: clients that compare it must refuse the response."""
    world.metadata["authorization_response_iss_parameter_supported"] = True
    found = await finding(world, "issuer of responses", flow="relay")
    assert (found.status, found.remedy) == ("warning", "set SEED_OAUTH_FLOW=broker")
    assert "issuer of responses" not in [found.check for found in await diagnose(world)]


@pytest.mark.parametrize(
    ("openid", "problem"),
    [
        (lambda _: httpx.Response(301, headers={"location": f"{IDP}/new"}), f"status 301, a redirect to {IDP}/new"),
        (lambda _: httpx.Response(200, html="<h1>Sign in</h1>"), "an HTML page instead of JSON"),
        (lambda _: httpx.Response(200, json=[]), "JSON, but not an object"),
        (lambda _: httpx.Response(404), "status 404"),
    ],
)
async def test_why_the_metadata_cannot_be_read_is_named(world: World, openid: Handler, problem: str) -> None:
    world.openid = openid
    assert problem in (await finding(world, "IdP metadata")).text


async def test_optional_members_of_the_metadata_that_are_ignored_are_a_warning(world: World) -> None:
    world.metadata["revocation_endpoint"] = "http://idp.example/revoke"
    found = await finding(world, "IdP metadata")
    assert found.status == "warning"
    assert "revocation_endpoint in the metadata must use https" in found.text


async def test_in_the_relay_flow_the_redirect_uri_is_not_checked(world: World) -> None:
    assert (await finding(world, "redirect URI", flow="relay")).status == "skipped"


@pytest.mark.parametrize(
    ("status", "body", "preset", "expected", "word"),
    [
        (400, {"error": "invalid_grant"}, "none", "ok", ""),
        (401, {"error": "invalid_client"}, "none", "failed", "SEED_OAUTH_IDP_CLIENT_SECRET"),
        (401, {"error": "unauthorized_client"}, "keycloak", "failed", "SEED_OAUTH_IDP_CLIENT_SECRET"),
        (401, None, "none", "failed", "SEED_OAUTH_IDP_TOKEN_AUTH_METHOD"),
        (400, {"error": "unauthorized_client"}, "none", "failed", "code and refresh token grants"),
        (400, {"error": "invalid_request"}, "none", "cannot tell", "try a login"),
        (200, {"error": "bad_verification_code"}, "github", "ok", ""),
        (200, {"error": "incorrect_client_credentials"}, "github", "failed", "SEED_OAUTH_IDP_CLIENT_ID"),
        (200, {"access_token": "at"}, "none", "failed", "SEED_OAUTH_IDP_TOKEN_URL"),
        (500, None, "none", "failed", "SEED_OAUTH_IDP_TOKEN_URL"),
    ],
)
async def test_an_invalid_code_shows_whether_the_credentials_are_valid(
    world: World, status: int, body: dict[str, str] | None, preset: str, expected: str, word: str
) -> None:
    world.token = lambda _: httpx.Response(status, json=body)
    endpoints: dict[str, Any] = {
        "idp_authorization_url": f"{IDP}/authorize",
        "idp_token_url": f"{IDP}/token",
        "idp_userinfo_url": f"{IDP}/user",
        "allow_everybody": True,
    }
    found = await finding(world, "credentials", idp_preset=preset, **endpoints)
    assert found.status == expected
    assert word in found.remedy
    (request,) = [request for request in world.requests if request.url.path == "/token"]
    assert form_of(request)["grant_type"] == "authorization_code"


@pytest.mark.parametrize(
    ("now", "status", "word"),
    [(NOW + 60, "ok", ""), (NOW + 61, "warning", "fast"), (NOW - 3600, "warning", "slow")],
)
async def test_a_clock_that_is_off_by_more_than_a_minute_is_a_warning(
    world: World, now: float, status: str, word: str
) -> None:
    found = await finding(world, "clock", now=now)
    assert (found.status, word in found.text) == (status, True)


async def test_the_date_may_come_from_the_authorization_endpoint(world: World) -> None:
    world.openid = lambda _: httpx.Response(200, json=world.metadata)
    assert (await finding(world, "clock")).status == "skipped"
    world.authorize = lambda _: httpx.Response(200, headers={"date": DATE})
    assert (await finding(world, "clock")).status == "ok"


async def test_endpoints_from_the_settings_are_checked_without_metadata(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEED_OAUTH_IDP_ISSUER")
    endpoints: dict[str, Any] = {"idp_authorization_url": f"{IDP}/authorize", "idp_token_url": f"{IDP}/token"}
    findings = {found.check: found.status for found in await diagnose(world, **endpoints)}
    assert (findings["IdP metadata"], findings["redirect URI"], findings["PKCE"]) == ("skipped", "ok", "cannot tell")


async def store_with_a_client(path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{path}"))
    await store.add(PUBLIC)
    await store.aclose()


async def test_a_store_must_be_readable_by_its_owner_only(world: World, tmp_path: Path) -> None:
    path = tmp_path / "clients.db"
    assert "will be created" in (await finding(world, "store")).text
    assert not path.exists()  # it would belong to the user of the doctor
    await store_with_a_client(path)
    assert (await finding(world, "store")).status == "ok"
    path.chmod(0o644)
    found = await finding(world, "store")
    assert (found.status, found.remedy) == ("warning", f"chmod 600 {path}")


async def test_a_store_of_another_user_is_a_warning(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_with_a_client(tmp_path / "clients.db")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert (await finding(world, "store")).status == "warning"


async def test_a_store_that_cannot_be_used_is_a_failure(world: World, tmp_path: Path) -> None:
    (tmp_path / "clients.db").write_text("no database" * 100)
    found = await finding(world, "store")
    assert (found.status, "SEED_OAUTH_STORE_URL" in found.remedy) == ("failed", True)
    found = await finding(world, "store", store_url=f"sqlite:///{tmp_path}/nowhere/clients.db")
    assert (found.status, "SEED_OAUTH_STORE_URL" in found.remedy) == ("failed", True)
    assert (await finding(world, "store", store_url="sqlite:///:memory:")).status == "warning"


@pytest.mark.real_parts("redis")
async def test_a_redis_that_loses_data_is_a_warning(world: World, empty_redis: RedisServer) -> None:
    def configure(appendonly: str, policy: str) -> None:
        empty_redis.ask("CONFIG", "SET", "appendonly", appendonly, "maxmemory-policy", policy)

    async def look() -> Finding:
        return await finding(world, "store", store_url=empty_redis.url)

    configure("yes", "noeviction")
    assert (await look()).status == "ok"
    configure("yes", "allkeys-lru")
    assert "maxmemory-policy noeviction" in (await look()).remedy
    configure("no", "noeviction")
    found = await look()
    assert (found.status, "appendonly yes" in found.remedy) == ("warning", True)


async def test_a_redis_that_cannot_be_used_is_a_failure_without_its_password(world: World) -> None:
    """THREATS 12."""
    url = f"redis://door:hush-hush@127.0.0.1:{free_port()}/0"
    found = await finding(world, "store", store_url=url)
    assert (found.status, "Connection refused" in found.text, "SEED_OAUTH_STORE_URL" in found.remedy) == (
        "failed", True, True
    )  # fmt: skip
    assert "hush" not in str(found)


async def test_a_metrics_port_must_be_free_or_used_by_this_server(world: World) -> None:
    assert "is free" in (await finding(world, "metrics port")).text
    with listen("127.0.0.1", 0, "METRICS_PORT") as taken:
        port = taken.getsockname()[1]
        found = await finding(world, "metrics port", metrics_port=port)
        assert (found.status, "SEED_OAUTH_METRICS_PORT" in found.remedy) == ("failed", True)
        world.local = lambda _: httpx.Response(200, text="go_goroutines 1")
        assert (await finding(world, "metrics port", metrics_port=port)).status == "failed"
        world.local = lambda _: httpx.Response(200, text="# TYPE oauth_authorization_requests_total counter")
        assert (await finding(world, "metrics port", metrics_port=port)).status == "ok"


async def test_a_server_on_all_addresses_is_requested_on_loopback(world: World) -> None:
    world.public = refused
    await diagnose(world, host="::")
    await diagnose(world, host="0.0.0.0")  # noqa: S104 - what is tested
    asked = {request.url.host for request in world.requests if request.url.path == "/healthz"}
    assert asked == {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "public", [refused, lambda _: httpx.Response(404), lambda _: httpx.Response(200, html="the MCP server")]
)
async def test_missing_public_metadata_points_to_the_reverse_proxy_if_the_server_runs(
    world: World, public: Handler
) -> None:
    world.public = public
    found = await finding(world, "server metadata")
    assert (found.status, "start it" in found.text) == ("skipped", True)
    world.local = lambda _: httpx.Response(200)
    found = await finding(world, "server metadata")
    assert (found.status, "/.well-known/" in found.remedy) == ("failed", True)


@pytest.mark.parametrize("issuer", [f"{DOOR}/", "http://door.example", None])
async def test_a_different_issuer_in_the_public_metadata_is_a_failure(world: World, issuer: str | None) -> None:
    world.public = lambda _: httpx.Response(200, json={"issuer": issuer})
    found = await finding(world, "server metadata")
    assert (found.status, "SEED_OAUTH_ISSUER" in found.remedy) == ("failed", True)


async def test_the_metadata_path_of_an_issuer_with_a_path_follows_rfc_8414(world: World) -> None:
    await diagnose(world, issuer=f"{DOOR}/tenant")
    paths = [request.url.path for request in world.requests if request.url.host == "door.example"]
    assert paths == ["/.well-known/oauth-authorization-server/tenant"]


async def test_a_resource_with_a_different_origin_is_a_warning(world: World) -> None:
    found = [
        found
        for found in await diagnose(world, resources=f"{DOOR}/mcp https://mcp.example/a/")
        if found.check == "resource"
    ]
    assert [one.status for one in found] == ["ok", "warning"]
    assert "https://mcp.example/.well-known/oauth-protected-resource/a " in found[1].remedy


def test_the_settings_of_these_tests_are_valid() -> None:
    assert Settings.load().missing() == []


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "ok"), (400, "ok"), (401, "ok"), (405, "ok"), (404, "failed"), (307, "failed"), (500, "failed")],
)
async def test_an_mcp_server_is_ok_if_its_url_is_that_of_an_endpoint(world: World, status: int, result: str) -> None:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    async with listening(answering(head)) as port:
        found = await finding(world, "MCP server", mcp_server=f"http://127.0.0.1:{port}/mcp")
    assert found.status == result
    assert result == "ok" or "its URL" in found.remedy


async def test_an_mcp_server_that_is_not_there_is_a_failure(world: World) -> None:
    found = await finding(world, "MCP server", mcp_server=f"http://127.0.0.1:{free_port()}/mcp")
    assert (found.status, "Connection refused" in found.text) == ("failed", True)


async def test_a_store_of_an_earlier_version_is_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SEED_OAUTH_STORE_URL")
    monkeypatch.chdir(tmp_path)
    assert (await finding(world, "store")).status == "ok"
    (tmp_path / "seed-oauth.db").touch()
    found = await finding(world, "store")
    assert (found.status, f"sqlite:///{tmp_path}/seed-oauth.db" in found.remedy) == ("warning", True)


async def test_the_rules_in_force_are_listed_with_those_of_each_mcp_server(world: World) -> None:
    servers = [{"resource": f"https://door.example/{name}", "url": f"http://{name}/mcp"} for name in ("mail", "pay")]
    servers[1]["allowed_groups"] = "finance, board"
    found = await finding(world, "access rules", mcp_servers=servers, denied_subjects="7", contact="it@example.com")
    assert found.status == "ok"
    assert found.text == "in force: DENIED_SUBJECTS (1), ALLOWED_GROUPS of https://door.example/pay (2)"
