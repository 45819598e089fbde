"""The development identity provider, over ASGI."""

import base64
import hashlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, quote_plus, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet

from seed_oauth.cli.demo import expiring_store
from seed_oauth.cli.demo.fault_injection import Behaviour, Faults
from seed_oauth.cli.demo.identity_provider import DevelopmentIdentityProvider

pytestmark = pytest.mark.anyio

CLIENT_ID, CLIENT_SECRET = "front door", "s3cret:with+odd/characters%"
REDIRECT_URI = "http://127.0.0.1:33418/callback"
VERIFIER = "correct-horse-battery-staple-correct-horse-battery"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


class Clock:
    """A clock that advances with each sleep."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Browser:
    """A client and its user: authorize, redeem, refresh, revoke."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def authorize(self, **changes: str | None) -> httpx.Response:
        parameters: dict[str, str | None] = {
            "client_id": CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "xyz",
            "scope": "read write",
        }
        return await self.http.get("/authorize", params=without_none(parameters | changes))

    async def code(self, **changes: str | None) -> str:
        return sent_back(await self.authorize(**changes))["code"]

    async def token(self, **form: str | None) -> httpx.Response:
        credentials: dict[str, str | None] = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return await self.http.post("/token", data=without_none(credentials | form))

    async def redeem(self, code: str, **changes: str | None) -> httpx.Response:
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        }
        return await self.token(**(form | changes))

    async def refresh(self, refresh_token: str, **changes: str | None) -> httpx.Response:
        form: dict[str, str | None] = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self.token(**(form | changes))

    async def refresh_token(self, **changes: str | None) -> str:
        return str((await self.redeem(await self.code(**changes))).json()["refresh_token"])

    async def opened(self, token: str) -> jwt.Token:
        """A JWT, verified with the published key."""
        keys = KeySet.import_key_set((await self.http.get("/jwks")).json())
        return jwt.decode(token, keys, algorithms=["ES256"])


def without_none(parameters: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def sent_back(response: httpx.Response) -> dict[str, str]:
    """The parameters of a redirect to the client."""
    assert response.status_code == 302
    return {name: value for name, (value,) in parse_qs(urlsplit(response.headers["location"]).query).items()}


def refused(response: httpx.Response, error: str, status: int = 400) -> bool:
    return (
        response.status_code == status
        and response.json()["error"] == error
        and response.headers["cache-control"] == "no-store"
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> DevelopmentIdentityProvider:
    return DevelopmentIdentityProvider(CLIENT_ID, CLIENT_SECRET, clock=clock, sleep=clock.sleep)


@pytest.fixture
async def browser(idp: DevelopmentIdentityProvider) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(idp.app), base_url="http://idp") as http:
        yield Browser(http)


async def test_a_valid_request_is_redirected_back_with_code_and_state(browser: Browser) -> None:
    response = await browser.authorize()
    assert response.headers["location"].startswith(f"{REDIRECT_URI}?code=")
    assert sent_back(response)["state"] == "xyz"


async def test_a_request_without_state_is_redirected_back_without_it(browser: Browser) -> None:
    assert sent_back(await browser.authorize(state=None)).keys() == {"code", "iss"}


@pytest.mark.parametrize(
    "redirect_uri",
    ["https://app.example/cb?tenant=1", "cursor://anysphere.cursor/callback", "http://[::1]:8/x", "com.example:/cb"],
)
async def test_any_safe_redirect_uri_is_accepted(browser: Browser, redirect_uri: str) -> None:
    location = (await browser.authorize(redirect_uri=redirect_uri)).headers["location"]
    assert location.startswith(redirect_uri + ("&" if "?" in redirect_uri else "?") + "code=")


@pytest.mark.parametrize(
    "redirect_uri", [None, "", "/relative", "https://app.example/#f", "https://a/#", "javascript:alert(1)"]
)
async def test_an_unsafe_redirect_uri_is_refused_without_redirecting(
    browser: Browser, redirect_uri: str | None
) -> None:
    assert refused(await browser.authorize(redirect_uri=redirect_uri), "invalid_request")


@pytest.mark.parametrize("client_id", [None, "", "somebody else", "frönt door"])
async def test_an_unknown_client_is_refused_without_redirecting(browser: Browser, client_id: str | None) -> None:
    assert refused(await browser.authorize(client_id=client_id), "unauthorized_client")


async def test_a_parameter_sent_twice_is_refused(browser: Browser) -> None:
    response = await browser.http.get("/authorize?client_id=a&client_id=b")
    assert refused(response, "invalid_request")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
    ],
)
async def test_other_errors_are_redirected_to_the_client(
    browser: Browser, changes: dict[str, str | None], error: str
) -> None:
    answer = sent_back(await browser.authorize(**changes))
    assert (answer["error"], answer["state"]) == (error, "xyz")
    assert "code" not in answer


async def test_a_code_is_exchanged_for_tokens(browser: Browser) -> None:
    response = await browser.redeem(await browser.code())
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert answer.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "read write")
    assert len({answer["access_token"], answer["refresh_token"]}) == 2
    assert min(len(answer["access_token"]), len(answer["refresh_token"])) >= 43


async def test_the_endpoints_in_the_metadata_exist(browser: Browser) -> None:
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()
    assert metadata["issuer"] == "http://idp"
    for name in ("authorization_endpoint", "token_endpoint", "revocation_endpoint", "jwks_uri"):
        assert (await browser.http.get(metadata[name])).status_code != 404
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["code_challenge_methods_supported"] == ["S256"]


@pytest.mark.parametrize("changes", [{}, {"response_type": "token"}])
async def test_every_authorization_response_has_the_issuer(browser: Browser, changes: dict[str, str | None]) -> None:
    assert sent_back(await browser.authorize(**changes))["iss"] == "http://idp"


async def test_an_access_token_is_a_signed_jwt_for_the_resource(browser: Browser) -> None:
    answer = (await browser.redeem(await browser.code(resource="https://mcp.example/mcp"))).json()
    token = await browser.opened(answer["access_token"])
    assert token.header["typ"] == "at+jwt"  # RFC 9068 §2.1
    assert (
        token.claims.items()
        >= {
            "iss": "http://idp",
            "sub": "developer",
            "aud": "https://mcp.example/mcp",
            "client_id": CLIENT_ID,
            "scope": "read write",
            "iat": 1_000,
            "exp": 4_600,
        }.items()
    )
    refreshed = (await browser.refresh(answer["refresh_token"], scope="read")).json()
    again = await browser.opened(refreshed["access_token"])
    assert (again.claims["aud"], again.claims["scope"]) == ("https://mcp.example/mcp", "read")
    assert again.claims["jti"] != token.claims["jti"]


async def test_without_a_resource_the_audience_is_the_issuer(browser: Browser) -> None:
    answer = (await browser.redeem(await browser.code())).json()
    assert (await browser.opened(answer["access_token"])).claims["aud"] == "http://idp"


async def test_a_token_request_for_another_resource_is_refused(browser: Browser) -> None:
    code = await browser.code(resource="https://mcp.example/mcp")
    assert refused(await browser.redeem(code, resource="https://mcp.example/other"), "invalid_target")
    refresh_token = await browser.refresh_token(resource="https://mcp.example/mcp")
    assert refused(await browser.refresh(refresh_token, resource="https://mcp.example/other"), "invalid_target")


async def test_a_resource_that_is_not_an_absolute_uri_is_refused(browser: Browser) -> None:
    assert sent_back(await browser.authorize(resource="/mcp"))["error"] == "invalid_target"


@pytest.mark.parametrize(("asked", "told"), [({"nonce": "n-0S6_WzA2Mj"}, {"nonce": "n-0S6_WzA2Mj"}), ({}, {})])
async def test_with_the_scope_openid_there_is_an_id_token_with_the_nonce(
    browser: Browser, asked: dict[str, str | None], told: dict[str, str]
) -> None:
    answer = (await browser.redeem(await browser.code(scope="openid", **asked))).json()
    token = await browser.opened(answer["id_token"])
    assert token.claims == {
        "iss": "http://idp", "sub": "developer", "aud": CLIENT_ID, "iat": 1_000, "exp": 1_300, **told,
    }  # fmt: skip


async def test_an_opaque_provider_issues_opaque_tokens_only(clock: Clock) -> None:
    idp = DevelopmentIdentityProvider(CLIENT_ID, CLIENT_SECRET, opaque=True, clock=clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(idp.app), base_url="http://idp") as http:
        browser = Browser(http)
        answer = (await browser.redeem(await browser.code(scope="openid"))).json()
    assert "id_token" not in answer
    assert "." not in answer["access_token"]


async def test_without_rotation_a_refresh_token_remains_valid(clock: Clock) -> None:
    idp = DevelopmentIdentityProvider(CLIENT_ID, CLIENT_SECRET, rotates=False, clock=clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(idp.app), base_url="http://idp") as http:
        browser = Browser(http)
        refresh_token = await browser.refresh_token()
        for _ in range(2):
            response = await browser.refresh(refresh_token)
            assert response.status_code == 200
            assert "refresh_token" not in response.json()


async def test_without_a_requested_scope_the_response_has_none(browser: Browser) -> None:
    assert "scope" not in (await browser.redeem(await browser.code(scope=None))).json()


async def test_a_code_works_once(browser: Browser) -> None:
    code = await browser.code()
    assert (await browser.redeem(code)).status_code == 200
    assert refused(await browser.redeem(code), "invalid_grant")


async def test_a_code_expires_after_a_minute(browser: Browser, clock: Clock) -> None:
    fresh, stale = await browser.code(), await browser.code()
    clock.now += 59.9
    assert (await browser.redeem(fresh)).status_code == 200
    clock.now += 0.1
    assert refused(await browser.redeem(stale), "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": None},
        {"code_verifier": "another-horse-battery-staple-another-horse-battery"},
        {"code_verifier": CHALLENGE},
        {"code_verifier": "ünïcödé"},
        {"redirect_uri": None},
        {"redirect_uri": REDIRECT_URI + "/"},
    ],
)
async def test_a_code_is_bound_and_spent_by_a_wrong_attempt(browser: Browser, changes: dict[str, str | None]) -> None:
    code = await browser.code()
    assert refused(await browser.redeem(code, **changes), "invalid_grant")
    assert refused(await browser.redeem(code), "invalid_grant")


async def test_a_refresh_token_is_rotated(browser: Browser) -> None:
    first = await browser.refresh_token()
    response = await browser.refresh(first)
    assert response.json()["scope"] == "read write"
    assert (await browser.refresh(response.json()["refresh_token"])).status_code == 200
    assert refused(await browser.refresh(first), "invalid_grant")


async def test_a_refresh_token_expires_after_a_day(browser: Browser, clock: Clock) -> None:
    refresh_token = await browser.refresh_token()
    clock.now += 86_400
    assert refused(await browser.refresh(refresh_token), "invalid_grant")


async def test_a_narrower_scope_applies_to_one_refresh_only(browser: Browser) -> None:
    narrow = (await browser.refresh(await browser.refresh_token(), scope="read")).json()
    assert narrow["scope"] == "read"
    assert (await browser.refresh(narrow["refresh_token"])).json()["scope"] == "read write"


async def test_a_refresh_that_widens_the_scope_is_refused_and_spends_nothing(browser: Browser) -> None:
    refresh_token = await browser.refresh_token()
    assert refused(await browser.refresh(refresh_token, scope="read admin"), "invalid_scope")
    assert (await browser.refresh(refresh_token)).status_code == 200


async def test_a_client_may_authenticate_by_basic_with_both_parts_form_urlencoded(browser: Browser) -> None:
    credentials = f"{quote_plus(CLIENT_ID)}:{quote_plus(CLIENT_SECRET)}".encode()
    response = await browser.http.post(
        "/token",
        data={
            "grant_type": "authorization_code",
            "code": await browser.code(),
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        },
        headers={"Authorization": f"Basic {base64.b64encode(credentials).decode()}"},
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !", "Basic aGVsbG8=", "Basic /w==", "Bearer abc", "", "basic d3Jvbmc6d3Jvbmc="]
)
async def test_basic_authentication_that_fails_is_answered_with_a_challenge(browser: Browser, header: str) -> None:
    response = await browser.http.post(
        "/token", data={"grant_type": "refresh_token"}, headers={"Authorization": header}
    )
    assert refused(response, "invalid_client", 401)
    assert response.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "credentials",
    [
        {"client_secret": None},
        {"client_secret": "wrong"},
        {"client_secret": "ünïcödé"},
        {"client_id": "somebody else"},
        {"client_id": None, "client_secret": None},
    ],
)
async def test_a_client_that_fails_to_authenticate_is_refused_and_spends_nothing(
    browser: Browser, credentials: dict[str, str | None]
) -> None:
    code = await browser.code()
    response = await browser.redeem(code, **credentials)
    assert refused(response, "invalid_client", 401)
    assert "www-authenticate" not in response.headers
    assert (await browser.redeem(code)).status_code == 200


async def test_a_client_that_authenticates_twice_is_refused(browser: Browser) -> None:
    response = await browser.http.post(
        "/token",
        data={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
        headers={"Authorization": "Basic eDp5"},
    )
    assert refused(response, "invalid_request")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "made up"}, "invalid_grant"),
    ],
)
async def test_the_error_names_a_missing_parameter(browser: Browser, form: dict[str, str | None], error: str) -> None:
    assert refused(await browser.token(**form), error)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b'{"grant_type": "refresh_token"}', 400),
        ("", b"grant_type=refresh_token", 400),
        ("application/x-www-form-urlencoded", b"client_id=\xfe", 400),
        ("application/x-www-form-urlencoded", b"client_id=%ff", 400),
        ("application/x-www-form-urlencoded", b"client_id=a&client_id=b", 400),
        ("application/x-www-form-urlencoded", b"&".join([b"a=b"] * 65), 400),
        ("application/x-www-form-urlencoded", b"a=" + b"b" * 65_536, 413),
    ],
)
async def test_a_malformed_form_is_refused(browser: Browser, content_type: str, body: bytes, status: int) -> None:
    response = await browser.http.post("/token", content=body, headers={"Content-Type": content_type})
    assert refused(response, "invalid_request", status)


@given(body=st.binary(max_size=200), header=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0")))
async def test_any_bytes_at_all_get_an_oauth_error(body: bytes, header: str) -> None:
    idp = DevelopmentIdentityProvider(CLIENT_ID, CLIENT_SECRET)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(idp.app), base_url="http://idp") as http:
        for path in ("/token", "/revoke"):
            response = await http.post(
                path,
                content=body,
                headers=[
                    (b"Content-Type", b"application/x-www-form-urlencoded"),
                    (b"Authorization", header.encode("latin-1")),
                ],
            )
            assert 400 <= response.status_code < 500
            assert response.json()["error"]


@given(query=st.text())
async def test_any_query_at_all_gets_an_oauth_error(query: str) -> None:
    idp = DevelopmentIdentityProvider(CLIENT_ID, CLIENT_SECRET)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(idp.app), base_url="http://idp") as http:
        response = await http.get("/authorize", params=query)
        assert response.status_code == 400
        assert response.json()["error"]


async def test_other_methods_and_paths_get_an_oauth_error(browser: Browser) -> None:
    wrong_method = await browser.http.get("/token")
    assert refused(wrong_method, "invalid_request", 405)
    assert wrong_method.headers["allow"] == "POST"
    assert refused(await browser.http.get("/nowhere"), "invalid_request", 404)


async def test_a_revoked_refresh_token_is_refused(browser: Browser) -> None:
    refresh_token = await browser.refresh_token()
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    revoked = await browser.http.post("/revoke", data={"token": refresh_token, **credentials})
    assert (revoked.status_code, revoked.content) == (200, b"")
    assert refused(await browser.refresh(refresh_token), "invalid_grant")
    unknown = await browser.http.post("/revoke", data={"token": "made up", **credentials})
    assert unknown.status_code == 200


async def test_a_revocation_needs_a_token_and_a_client(browser: Browser) -> None:
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert refused(await browser.http.post("/revoke", data=credentials), "invalid_request")
    assert refused(await browser.http.post("/revoke", data={"token": "x"}), "invalid_client", 401)


async def test_an_injected_latency_slows_the_token_endpoint_only(
    browser: Browser, idp: DevelopmentIdentityProvider, clock: Clock
) -> None:
    idp.faults.latency = 1.5
    code = await browser.code()
    assert clock.now == 1_000.0
    await browser.redeem(code)
    assert clock.now == 1_001.5


async def test_an_injected_error_rate_fails_token_requests_and_can_be_reset(
    browser: Browser, idp: DevelopmentIdentityProvider
) -> None:
    code = await browser.code()
    idp.faults = Faults(error_rate=1.0)
    response = await browser.redeem(code)
    assert refused(response, "server_error", 503)
    assert response.headers["retry-after"] == "1"
    idp.faults.error_rate = 0.0
    assert (await browser.redeem(code)).status_code == 200


@pytest.mark.parametrize(
    ("behaviour", "error", "status"),
    [
        (Behaviour(status=500), "server_error", 500),
        (Behaviour(status=503), "server_error", 503),
        (Behaviour(status=429, error="slow_down"), "slow_down", 429),
        (Behaviour(error="invalid_grant"), "invalid_grant", 400),
        (Behaviour(status=200, error="bad_verification_code"), "bad_verification_code", 200),
    ],
)
async def test_a_scripted_code_fails_once_and_is_not_spent(
    browser: Browser, idp: DevelopmentIdentityProvider, behaviour: Behaviour, error: str, status: int
) -> None:
    scripted, other = await browser.code(), await browser.code()
    idp.script(scripted, behaviour)
    assert (await browser.redeem(other)).status_code == 200
    response = await browser.redeem(scripted)
    assert refused(response, error, status)
    assert ("retry-after" in response.headers) == (status in {429, 503})
    assert (await browser.redeem(scripted)).status_code == 200


@pytest.mark.parametrize(
    ("behaviour", "status"), [(Behaviour(html=True), 200), (Behaviour(html=True, status=502), 502)]
)
async def test_a_scripted_refresh_token_may_get_a_web_page(
    browser: Browser, idp: DevelopmentIdentityProvider, behaviour: Behaviour, status: int
) -> None:
    refresh_token = await browser.refresh_token()
    idp.script(refresh_token, behaviour)
    response = await browser.refresh(refresh_token)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.startswith("<!doctype html>")


async def test_a_scripted_latency_replaces_the_default_one(
    browser: Browser, idp: DevelopmentIdentityProvider, clock: Clock
) -> None:
    idp.faults.latency = 1.0
    refresh_token = await browser.refresh_token()
    before = clock.now
    idp.script(refresh_token, Behaviour(latency=7.0))
    assert (await browser.refresh(refresh_token)).status_code == 200
    assert clock.now == before + 7.0


async def test_a_scripted_request_ignores_the_error_rate(browser: Browser, idp: DevelopmentIdentityProvider) -> None:
    code = await browser.code()
    idp.faults.error_rate = 1.0
    idp.script(code, Behaviour(latency=0))
    assert (await browser.redeem(code)).status_code == 200


async def test_a_scripted_state_is_redirected_back_with_its_error(
    browser: Browser, idp: DevelopmentIdentityProvider, clock: Clock
) -> None:
    idp.script("xyz", Behaviour(error="access_denied", latency=2.0))
    answer = sent_back(await browser.authorize())
    assert (answer["error"], answer["state"]) == ("access_denied", "xyz")
    assert clock.now == 1_002.0
    assert "code" in sent_back(await browser.authorize())


async def test_a_script_covers_a_whole_session(
    browser: Browser, idp: DevelopmentIdentityProvider, clock: Clock
) -> None:
    idp.script("xyz", *(Behaviour(latency=seconds) for seconds in (1, 20, 300, 4000)), Behaviour(error="invalid_grant"))
    code = await browser.code()
    tokens = (await browser.redeem(code)).json()
    for _ in range(2):
        tokens = (await browser.refresh(tokens["refresh_token"])).json()
    assert clock.now == 1_000 + 4_321
    assert refused(await browser.refresh(tokens["refresh_token"]), "invalid_grant")
    assert (await browser.refresh(tokens["refresh_token"])).status_code == 200


async def test_the_stores_are_bounded_and_drop_the_oldest_first(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring_store, "MOST_KEPT", 2)
    oldest, *rest = [await browser.code() for _ in range(3)]
    assert refused(await browser.redeem(oldest), "invalid_grant")
    oldest_token, *tokens = [(await browser.redeem(code)).json()["refresh_token"] for code in rest]
    tokens.append(await browser.refresh_token())
    assert refused(await browser.refresh(oldest_token), "invalid_grant")
    assert [(await browser.refresh(token)).status_code for token in tokens] == [200, 200]
