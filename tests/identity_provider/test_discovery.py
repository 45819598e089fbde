"""Discovery: what the identity provider says of itself, read, checked, kept and read again."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
import structlog.testing

from seed_oauth import Pipeline, Settings
from seed_oauth.http_client.fetch import ConnectionFailedError
from seed_oauth.identity_provider.client import MAXIMUM_RESPONSE
from seed_oauth.identity_provider.discovery import Discovery, MetadataError, well_known_urls
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.identity_provider.open import open_discovery
from seed_oauth.outcomes import AuthorizationOutcome, TokenOutcome
from tests.harness import TOKENS, RelayDoor, code_request, json_of

pytestmark = pytest.mark.anyio

IDP = "https://idp.example"
OPENID = f"{IDP}/.well-known/openid-configuration"
OAUTH = f"{IDP}/.well-known/oauth-authorization-server"
DOCUMENT: Mapping[str, Any] = {
    "issuer": IDP,
    "authorization_endpoint": f"{IDP}/authorize?tenant=a",
    "token_endpoint": f"{IDP}/token",
    "revocation_endpoint": f"{IDP}/revoke",
    "jwks_uri": f"{IDP}/keys",
    "introspection_endpoint": f"{IDP}/introspect",
    "authorization_response_iss_parameter_supported": True,
    "code_challenge_methods_supported": ["S256"],
}
# Nothing but the issuer: the settings that a user of discovery has.
BY_ISSUER = {
    "idp_issuer": IDP,
    "idp_authorization_url": None,
    "idp_token_url": None,
    "idp_revocation_url": None,
}


class Idp:
    """An identity provider that answers as the test says, at `/token` with tokens."""

    def __init__(self, *answers: httpx.Response | Exception, **members: Any) -> None:
        self.answers = list(answers)
        self.members = members
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json=TOKENS)
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else httpx.Response(200, json={**DOCUMENT, **self.members})
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.requests]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def discovery(idp: Callable[[httpx.Request], httpx.Response], clock: Clock | None = None, **settings: Any) -> Discovery:
    given = {"idp_issuer": IDP, **settings}
    return open_discovery(
        Settings(allow_everybody=True, **given), httpx.MockTransport(idp), Pipeline().telemetry, clock or Clock()
    )


async def settled(source: Discovery) -> None:
    """Wait for the attempt that is under way, whatever comes of it."""
    await asyncio.wait([source.start()])


async def test_the_metadata_is_read_at_start_and_used_for_logins() -> None:
    idp = Idp()
    async with RelayDoor(idp=idp, settings=BY_ISSUER) as door:
        assert json_of(await door.http.get("/readyz")) == {"status": "ready"}
        response = await door.authorize()
        assert response.headers["location"].startswith(f"{IDP}/authorize?tenant=a&")
        assert (await door.token(code_request())).status_code == 200
        assert [str(request.url) for request in door.idp_requests] == [OPENID, f"{IDP}/token"]
        counted = {"operation": "discovery", "outcome": "ok"}
        assert await door.value("oauth_idp_requests_total", **counted) == 1
        assert await door.value("oauth_idp_request_duration_seconds_count", **counted) == 1


async def test_our_credentials_are_never_sent_along() -> None:
    idp = Idp()
    async with RelayDoor(idp=idp, settings=BY_ISSUER) as door:
        await door.authorize()
    (request,) = idp.requests
    assert request.method == "GET"
    assert "authorization" not in request.headers
    assert not request.content
    assert request.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(403, text="no"),
        httpx.Response(200, html="<title>Sign in</title>"),
        httpx.Response(200, json=[]),
        httpx.Response(302, headers={"location": OPENID}),
    ],
    ids=["not found", "forbidden", "a page", "an array", "a redirect"],
)
async def test_where_openid_connect_has_nothing_the_path_of_rfc_8414_is_tried(answer: httpx.Response) -> None:
    idp = Idp(answer)
    assert (await discovery(idp).get()).token_endpoint == f"{IDP}/token"
    assert idp.urls == [OPENID, OAUTH]


def test_the_path_of_an_issuer_comes_where_each_standard_has_it() -> None:
    assert well_known_urls("https://idp.example/realms/a") == (
        "https://idp.example/realms/a/.well-known/openid-configuration",
        "https://idp.example/.well-known/oauth-authorization-server/realms/a",
    )
    assert well_known_urls("https://tenant.auth0.com/") == (
        "https://tenant.auth0.com/.well-known/openid-configuration",
        "https://tenant.auth0.com/.well-known/oauth-authorization-server",
    )


async def test_what_is_read_is_all_that_the_door_needs() -> None:
    metadata = await discovery(Idp()).get()
    assert metadata.issuer == IDP
    assert metadata.revocation_endpoint == f"{IDP}/revoke"
    assert metadata.jwks_uri == f"{IDP}/keys"
    assert metadata.introspection_endpoint == f"{IDP}/introspect"
    assert metadata.sends_issuer
    assert metadata.code_challenge_methods == ("S256",)
    bare = await discovery(
        Idp(revocation_endpoint=None, jwks_uri=None, introspection_endpoint=None, code_challenge_methods_supported=None,
            authorization_response_iss_parameter_supported="yes")
    ).get()  # fmt: skip
    assert (bare.revocation_endpoint, bare.jwks_uri, bare.introspection_endpoint) == (None, None, None)
    assert not bare.sends_issuer
    assert bare.code_challenge_methods == ()


async def test_a_url_that_is_set_goes_before_the_one_in_the_metadata() -> None:
    own: dict[str, Any] = {
        "idp_authorization_url": "https://own.example/a",
        "idp_token_url": "https://own.example/t",
        "idp_revocation_url": "https://own.example/r",
        "idp_jwks_url": "https://own.example/j",
        "idp_introspection_url": "https://own.example/i",
    }
    metadata = await discovery(Idp(token_endpoint="ftp://", jwks_uri=7), **own).get()
    assert own == {
        "idp_authorization_url": metadata.authorization_endpoint,
        "idp_token_url": metadata.token_endpoint,
        "idp_revocation_url": metadata.revocation_endpoint,
        "idp_jwks_url": metadata.jwks_uri,
        "idp_introspection_url": metadata.introspection_endpoint,
    }
    assert (await discovery(Idp(), idp_token_url="https://own.example/t").get()).jwks_uri == f"{IDP}/keys"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"issuer": f"{IDP}/"}, "SEED_OAUTH_IDP_ISSUER must end with a slash"),
        ({"issuer": "https://evil.example"}, "(RFC 8414 §3.3), https://evil.example: set SEED_OAUTH_IDP_ISSUER"),
        ({"issuer": "https://evil.example/\r\n" + "x" * 999}, "https://evil.example/ xxx"),
        ({"issuer": None}, "belongs to another issuer"),
        ({"issuer": [IDP]}, "belongs to another issuer"),
        ({"token_endpoint": None}, "https://host/path, or set SEED_OAUTH_IDP_TOKEN_URL"),
        ({"token_endpoint": "token"}, "token_endpoint in the metadata must be an absolute URL"),
        ({"token_endpoint": "http://idp.example/token"}, "token_endpoint in the metadata must use https"),
        ({"authorization_endpoint": ["https://a"]}, "authorization_endpoint in the metadata must be an absolute URL"),
        ({"authorization_endpoint": f"{IDP}/?client_id=x"}, "authorization_endpoint in the metadata must not set"),
    ],
)  # fmt: skip
async def test_metadata_that_cannot_be_used_is_refused_by_the_member(members: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError) as refused:
        await discovery(Idp(**members)).get()
    assert message in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


async def test_an_issuer_with_a_slash_too_many_is_told_so() -> None:
    with pytest.raises(MetadataError, match="SEED_OAUTH_IDP_ISSUER must not end with a slash"):
        await discovery(Idp(), idp_issuer=f"{IDP}/").get()


async def test_an_issuer_whose_metadata_is_at_no_well_known_path_is_refused() -> None:
    idp = Idp(httpx.Response(404), httpx.Response(200, text="{"))
    with pytest.raises(IdentityProviderError, match=r"openid-configuration: status 404; .*: the response is not JSON"):
        await discovery(idp).get()


UNUSABLE = [
    *[(name, value) for name in ("revocation_endpoint", "introspection_endpoint", "jwks_uri")
      for value in ("http://idp.example/x", "/x", "file:///etc/passwd", "https://me@idp.example", 7, ["x"])],
]  # fmt: skip


@pytest.mark.parametrize(("member", "value"), UNUSABLE)
async def test_an_optional_member_that_cannot_be_used_stops_no_login_and_is_told(member: str, value: object) -> None:
    with structlog.testing.capture_logs() as lines:
        metadata = await discovery(Idp(**{member: value})).get()
    assert getattr(metadata, member) is None
    (line,) = [line for line in lines if line["event"] == "identity provider metadata ignored in part"]
    assert member in str(line["ignored"])


@pytest.mark.parametrize("member", ["revocation_endpoint", "introspection_endpoint", "jwks_uri"])
@pytest.mark.parametrize("value", ["", None])
async def test_an_optional_member_that_is_empty_is_absent(member: str, value: object) -> None:
    metadata = await discovery(Idp(**{member: value})).get()
    assert (getattr(metadata, member), metadata.ignored) == (None, ())


HTML = "<!doctype html><title>Sign in</title>"
FAILURES: list[tuple[list[Any], str]] = [
    # What is at the first path, and at the second; and what is said of it.
    ([ConnectionFailedError("the host name cannot be resolved (DNS)")], "the host name cannot be resolved (DNS)"),
    ([httpx.Response(500)], "status 500"),
    ([httpx.Response(404), httpx.Response(404)],
     f"{OPENID}: status 404; {IDP}/.well-known/oauth-authorization-server: status 404"),
    ([httpx.Response(200, text=HTML), httpx.Response(404)], f"{OPENID}: an HTML page instead of JSON; "),
    ([httpx.Response(200, json=["a"]), httpx.Response(404)], f"{OPENID}: JSON, but not an object; "),
    ([httpx.Response(200, text="{"), httpx.Response(404)], f"{OPENID}: the response is not JSON; "),
    ([httpx.Response(200, text=""), httpx.Response(404)], f"{OPENID}: the response is not JSON; "),
    ([httpx.Response(301, headers={"Location": f"{IDP}/new"}), httpx.Response(404)],
     f"{OPENID}: status 301, a redirect to {IDP}/new; "),
    ([httpx.Response(403), httpx.Response(200, text=HTML)], "server: an HTML page instead of JSON"),
    ([httpx.Response(404), ConnectionFailedError("the connection was refused")], "server: the connection was refused"),
    ([httpx.Response(200, content=b" " * 70_000), httpx.Response(404)], f"{OPENID}: the response is too large; "),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "problem"), FAILURES, ids=[problem for _, problem in FAILURES])
async def test_each_failure_has_its_name(answers: list[Any], problem: str) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(IdentityProviderError) as failed:
        await discovery(Idp(*answers)).get()
    assert problem in str(failed.value)
    assert problem in str(lines)


async def test_a_byte_order_mark_is_ignored() -> None:
    """RFC 8259 §8.1."""
    idp = Idp(httpx.Response(200, content=b"\xef\xbb\xbf" + json.dumps(DOCUMENT).encode()))
    assert (await discovery(idp).get()).issuer == IDP


@pytest.mark.parametrize(
    ("members", "scopes"),
    [
        ({}, ()),
        ({"scopes_supported": ["openid", "profile"]}, ("openid",)),
        ({"scopes_supported": ["offline_access", "offline", "openid"]}, ("openid", "offline_access")),
        ({"scopes_supported": ["mail", "offline_access"]}, ("offline_access",)),
        ({"scopes_supported": "openid"}, ()),
        ({"subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]}, ("openid",)),
        ({"subject_types_supported": ["public"]}, ()),
    ],
)
async def test_the_scopes_of_openid_connect_are_asked_for_where_the_metadata_has_them(
    members: dict[str, Any], scopes: tuple[str, ...]
) -> None:
    assert (await discovery(Idp(**members)).get()).default_scopes == scopes


CLAIM = "https://tenant.example/guid/v2.0/"


@pytest.mark.parametrize(
    ("published", "settings", "issuer"),
    [
        (CLAIM, {"idp_issuer_claim": CLAIM}, CLAIM),
        # AD FS: its access tokens name another issuer than its metadata.
        (
            IDP,
            {"idp_issuer_claim": "http://adfs.example/adfs/services/trust"},
            "http://adfs.example/adfs/services/trust",
        ),
        ("https://evil.example", {"idp_issuer_claim": CLAIM}, None),
        (CLAIM, {}, None),
    ],
)
async def test_an_issuer_that_is_not_where_the_metadata_is_can_be_set(
    published: str, settings: dict[str, Any], issuer: str | None
) -> None:
    source = discovery(Idp(issuer=published), **settings)
    if issuer is None:
        with pytest.raises(MetadataError, match="set SEED_OAUTH_IDP_ISSUER to it, or SEED_OAUTH_IDP_ISSUER_CLAIM"):
            await source.get()
    else:
        assert (await source.get()).issuer == issuer


GUID = "4c2f1234-0123-4567-7654-123321828afd"


@pytest.mark.parametrize(
    ("issuer", "published", "accepted"),
    [
        ("https://a.b2clogin.com/a.onmicrosoft.com/b2c_1_in/v2.0", f"https://a.b2clogin.com/{GUID}/v2.0/", True),
        (f"https://a.b2clogin.com/{GUID}/b2c_1_in/v2.0", f"https://a.b2clogin.com/{GUID}/v2.0/", True),
        (f"https://a.b2clogin.com/tfp/{GUID}/b2c/v2.0/", f"https://a.b2clogin.com/tfp/{GUID}/b2c/v2.0/", True),
        ("https://a.b2clogin.com/a.onmicrosoft.com/b2c_1_in/v2.0", f"https://b.b2clogin.com/{GUID}/v2.0/", False),
        ("https://a.b2clogin.com/a.onmicrosoft.com/b2c_1_in/v2.0", f"https://a.b2clogin.com/{GUID}/v2.0", False),
        (f"https://a.ciamlogin.com/{GUID}/v2.0", f"https://{GUID}.ciamlogin.com/{GUID}/v2.0", True),
        ("https://a.ciamlogin.com/a.onmicrosoft.com/v2.0", f"https://{GUID}.ciamlogin.com/{GUID}/v2.0", True),
        (f"https://a.ciamlogin.com/{GUID}/v2.0", "https://evil.ciamlogin.com/x/v2.0", False),
        ("https://login.microsoftonline.com/consumers/v2.0",
         "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", True),
        ("https://login.microsoftonline.com/consumers/v2.0", f"https://login.microsoftonline.com/{GUID}/v2.0", False),
        ("https://login.microsoftonline.com/contoso.com/v2.0", f"https://login.microsoftonline.com/{GUID}/v2.0", False),
    ],
)  # fmt: skip
async def test_the_exceptions_of_microsofts_issuers_are_known(issuer: str, published: str, accepted: bool) -> None:
    source = discovery(Idp(issuer=published), idp_issuer=issuer)
    if accepted:
        assert (await source.get()).issuer == published
    else:
        with pytest.raises(MetadataError):
            await source.get()


@pytest.mark.parametrize("tenant", ["common", "organizations"])
async def test_the_template_of_entras_multi_tenant_issuers_is_the_known_exception(tenant: str) -> None:
    issuer = f"https://login.microsoftonline.com/{tenant}/v2.0"
    template = "https://login.microsoftonline.com/{tenantid}/v2.0"
    assert (await discovery(Idp(issuer=template), idp_issuer=issuer).get()).issuer == template
    with pytest.raises(MetadataError):
        await discovery(Idp(issuer=template), idp_issuer="https://login.microsoftonline.com/contoso.com/v2.0").get()
    with pytest.raises(MetadataError):
        await discovery(Idp(issuer=template), idp_issuer=issuer, idp_preset="none").get()


@pytest.mark.parametrize(
    ("answer", "problem", "outcome"),
    [
        (httpx.ConnectError("refused"), "unreachable", "connect_error"),
        (httpx.ReadTimeout("slow"), "timeout", "timeout"),
        (httpx.Response(500), "status 500", "http_5xx"),
        (httpx.Response(429, headers={"retry-after": "7"}), "status 429", "http_4xx"),
    ],
)
async def test_a_failed_attempt_is_an_error_of_the_identity_provider_and_counted(
    answer: httpx.Response | Exception, problem: str, outcome: str
) -> None:
    async with RelayDoor(idp=Idp(answer), settings=BY_ISSUER) as door:
        refused = await door.authorize()
        assert json_of(refused)["error"] == "temporarily_unavailable"
        assert await door.error_count(AuthorizationOutcome.IDP_UNAVAILABLE) == 1
        # One attempt for all of them: the pause has begun.
        token = await door.token(code_request())
        assert token.status_code in {502, 503}
        assert json_of(token)["error"] == "temporarily_unavailable"
        assert int(token.headers["retry-after"]) >= 1
        ready = await door.http.get("/readyz")
        assert ready.status_code == 503
        assert json_of(ready)["problems"] == [
            f"the identity provider's metadata (SEED_OAUTH_IDP_ISSUER) has not been read yet: {problem}"
        ]
        assert await door.value("oauth_idp_requests_total", operation="discovery", outcome=outcome) == 1
        # No exchange was tried, so none is counted.
        assert await door.value("oauth_token_exchanges_total", grant_type="authorization_code", result="failure") == 0


async def test_an_identity_provider_that_is_down_is_a_503_at_the_token_endpoint() -> None:
    async with RelayDoor(idp=Idp(httpx.ConnectError("refused")), settings=BY_ISSUER) as door:
        assert (await door.token(code_request())).status_code == 503
        assert await door.error_count(TokenOutcome.IDP_UNREACHABLE) == 1


async def test_a_document_without_end_is_given_up() -> None:
    idp = Idp(httpx.Response(200, content=b" " * (MAXIMUM_RESPONSE + 1)), httpx.Response(404))
    with pytest.raises(IdentityProviderError):
        await discovery(idp).get()


async def test_it_recovers_by_itself_with_growing_pauses_and_no_request_between() -> None:
    clock = Clock()
    idp = Idp(*(httpx.ConnectError("refused") for _ in range(8)))
    source = discovery(idp, clock)
    pauses = []
    for attempt in range(1, 9):
        with pytest.raises(IdentityProviderError):
            await source.get()
        assert len(idp.requests) == attempt
        with pytest.raises(IdentityProviderError) as meanwhile:
            await source.get()
        assert len(idp.requests) == attempt
        assert meanwhile.value.retry_after is not None
        pauses.append(meanwhile.value.retry_after)
        clock.now += meanwhile.value.retry_after
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (await source.get()).token_endpoint == f"{IDP}/token"


async def test_a_pause_that_the_identity_provider_asks_for_is_kept() -> None:
    clock = Clock()
    source = discovery(Idp(httpx.Response(429, headers={"retry-after": "90"})), clock)
    await settled(source)
    clock.now += 89
    with pytest.raises(IdentityProviderError):
        await source.get()
    clock.now += 1
    assert (await source.get()).issuer == IDP


async def test_fifty_who_ask_at_once_make_one_request() -> None:
    idp = Idp()
    source = discovery(idp)
    found = await asyncio.gather(*(source.get() for _ in range(50)))
    assert len(idp.requests) == 1
    assert len(set(map(id, found))) == 1


async def test_one_who_gives_up_waiting_does_not_take_the_attempt_away_from_the_others() -> None:
    source = discovery(Idp())
    impatient, patient = asyncio.create_task(source.get()), asyncio.create_task(source.get())
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).issuer == IDP
    assert impatient.cancelled()


async def test_after_an_hour_it_is_read_again_while_the_old_one_serves() -> None:
    clock = Clock()
    idp = Idp()
    source = discovery(idp, clock)
    old = await source.get()
    clock.now += 3599
    assert await source.get() is old
    assert len(idp.requests) == 1
    idp.members["token_endpoint"] = f"{IDP}/new/token"
    clock.now += 1
    assert await source.get() is old
    assert await source.get() is old  # the attempt under way is the only one
    await settled(source)
    assert (await source.get()).token_endpoint == f"{IDP}/new/token"
    assert len(idp.requests) == 2


@pytest.mark.parametrize("answer", [httpx.ConnectError("refused"), httpx.Response(200, json={"issuer": "https://x"})])
async def test_what_is_known_outlives_an_identity_provider_that_fails(answer: httpx.Response | Exception) -> None:
    clock = Clock()
    idp = Idp()
    source = discovery(idp, clock)
    known = await source.get()
    idp.answers = [answer]
    clock.now += 3600
    with structlog.testing.capture_logs() as logged:
        assert await source.get() is known
        await settled(source)
    assert [line["event"] for line in logged] == ["identity provider metadata not read"]
    assert await source.get() is known
    assert len(idp.requests) == 2
    clock.now += 60
    await source.get()
    await settled(source)
    assert len(idp.requests) == 3


async def test_start_and_failure_are_logged_and_a_refresh_without_news_is_not() -> None:
    clock = Clock()
    source = discovery(Idp(httpx.Response(404), httpx.Response(404)), clock)
    with structlog.testing.capture_logs() as logged:
        await settled(source)
        clock.now += 1
        await source.get()
        clock.now += 3600
        await source.get()
        await settled(source)
    assert [(line["event"], line["log_level"]) for line in logged] == [
        ("identity provider metadata not read", "warning"),
        ("identity provider metadata read", "info"),
    ]
    assert logged[0]["problem"] == f"{OPENID}: status 404; {OAUTH}: status 404"
    assert logged[0]["retry_after_s"] == 1


async def test_an_unforeseen_failure_is_logged_with_its_stack_and_recovered_from() -> None:
    clock = Clock()
    source = discovery(Idp(RuntimeError("unforeseen")), clock)
    with structlog.testing.capture_logs() as logged, pytest.raises(IdentityProviderError):
        await source.get()
    assert [line["event"] for line in logged] == ["unexpected", "identity provider metadata not read"]
    with pytest.raises(IdentityProviderError):
        await source.get()
    clock.now += 1
    assert (await source.get()).issuer == IDP


async def test_an_attempt_under_way_is_given_up_when_the_app_stops() -> None:
    begun = asyncio.Event()

    async def hangs(_: httpx.Request) -> httpx.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with RelayDoor(idp=hangs, settings=BY_ISSUER) as door:
        await begun.wait()
        ready = await door.http.get("/readyz")
        assert "has not been read yet: timeout" in json_of(ready)["problems"][0]
    assert await door.value("oauth_idp_requests_total", operation="discovery", outcome="cancelled") == 1
