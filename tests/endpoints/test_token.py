"""What both flows check, in the relay flow; test_broker_token.py has what the broker flow adds."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from seed_oauth.outcomes import TokenOutcome as Row
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from tests.broker import KnownClients
from tests.harness import (
    BASIC,
    CALLBACK,
    CODE_VERIFIER,
    DOCUMENT_DOWN,
    DOCUMENT_GONE,
    ISSUER,
    POST,
    PUBLIC,
    TOKENS,
    BrokenStore,
    FrontDoor,
    IdentityProvider,
    RelayDoor,
    apart_from_documents,
    code_request,
    form_of,
    increases,
    json_of,
    refresh_request,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


@dataclass
class Refused:
    """A request that the door refuses itself, before any request to the identity provider."""

    row: Row
    form: Mapping[str, str]
    error: str
    status: int = 400
    authorization: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    broken_store: bool = False


REFUSED = [
    Refused(Row.NOT_CONFIGURED, code_request(), "server_error", 503, settings={"idp_token_url": None}),
    # PROTOCOL T3 and R6.
    Refused(Row.UNKNOWN_CLIENT, code_request(client_id="nobody"), "invalid_client", 401),
    Refused(Row.UNKNOWN_CLIENT, code_request(client_id=None), "invalid_client", 401, basic("nobody", "x")),
    # PROTOCOL R5: only a definite problem is invalid_client, on which clients throw good tokens away.
    Refused(Row.BAD_CLIENT_DOCUMENT, code_request(client_id=DOCUMENT_GONE), "invalid_client", 401),
    Refused(Row.BAD_CLIENT_DOCUMENT, refresh_request(client_id=DOCUMENT_GONE), "invalid_client", 401),
    Refused(Row.CLIENT_DOCUMENT_UNAVAILABLE, code_request(client_id=DOCUMENT_DOWN), "temporarily_unavailable", 503),
    Refused(Row.CLIENT_DOCUMENT_UNAVAILABLE, refresh_request(client_id=DOCUMENT_DOWN), "temporarily_unavailable", 503),
    Refused(Row.BAD_CLIENT_AUTHENTICATION, code_request(client_id="post"), "invalid_client", 401),
    Refused(Row.BAD_CLIENT_AUTHENTICATION, code_request(client_secret="x"), "invalid_client", 401),
    Refused(Row.BAD_CLIENT_AUTHENTICATION, code_request(client_id="post", client_secret="wrong"),
            "invalid_client", 401),
    Refused(Row.BAD_CLIENT_AUTHENTICATION, code_request(client_id="basic", client_secret="secret of basic"),
            "invalid_client", 401),
    Refused(Row.BAD_CLIENT_AUTHENTICATION, code_request(client_id=None), "invalid_client", 401,
            basic("basic", "wrong")),
    Refused(Row.CLIENT_LOOKUP_FAILED, code_request(), "temporarily_unavailable", 503, broken_store=True),
    # PROTOCOL T2.
    Refused(Row.UNSUPPORTED_GRANT_TYPE, code_request(grant_type="password"), "unsupported_grant_type"),
    Refused(Row.UNSUPPORTED_GRANT_TYPE, code_request(grant_type="x" * 9000), "unsupported_grant_type"),
    Refused(Row.MISSING_PARAMETER, code_request(grant_type=None), "invalid_request"),
    Refused(Row.MISSING_PARAMETER, code_request(code=None), "invalid_request"),
    Refused(Row.MISSING_PARAMETER, refresh_request(refresh_token=None), "invalid_request"),
    # PROTOCOL T4: PKCE is never skipped because the verifier is absent.
    Refused(Row.BAD_CODE_VERIFIER, code_request(code_verifier=None), "invalid_grant"),
    Refused(Row.BAD_CODE_VERIFIER, code_request(code_verifier=""), "invalid_grant"),
    Refused(Row.BAD_CODE_VERIFIER, code_request(code_verifier="a" * 42), "invalid_grant"),
    Refused(Row.BAD_CODE_VERIFIER, code_request(code_verifier="a" * 129), "invalid_grant"),
    Refused(Row.BAD_CODE_VERIFIER, code_request(code_verifier="a" * 42 + " "), "invalid_grant"),
    Refused(Row.BAD_REDIRECT_URI, code_request(redirect_uri="https://evil.example/"), "invalid_grant"),
    Refused(Row.BAD_SCOPE, refresh_request(scope="a  b"), "invalid_scope"),
    Refused(Row.BAD_RESOURCE, code_request(resource="https://other.example/mcp"), "invalid_target"),
    Refused(Row.BAD_RESOURCE, refresh_request(resource="https://other.example/mcp"), "invalid_target"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.row.reason}-{case.error}")
async def test_what_the_door_refuses_itself_is_counted_as_an_error_and_not_as_an_exchange(case: Refused) -> None:
    """PROTOCOL T2, T3, T4, R5 and R6; each case says which."""
    clients = BrokenStore() if case.broken_store else None
    headers = {"Authorization": case.authorization} if case.authorization else {}
    async with RelayDoor(settings=case.settings, clients=clients) as door:
        before = await door.samples()
        response = await door.token(case.form, headers=headers)

        assert response.status_code == case.status
        assert json_of(response)["error"] == case.error
        assert response.headers["cache-control"] == "no-store"
        grown = increases(before, await door.samples())
        assert apart_from_documents(grown, len(door.document_requests)) == {
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="token",reason="{case.row.reason}"}}': 1
        }
        assert door.idp_requests == []


@dataclass
class Failed:
    """An exchange that the identity provider does not grant."""

    row: Row
    idp: IdentityProvider
    error: str
    status: int
    idp_outcome: str


def answers(status: int, error: str | None = None, **options: Any) -> IdentityProvider:
    return lambda _: httpx.Response(status, json={"error": error} if error else None, **options)


def raises(failure: Exception) -> IdentityProvider:
    def idp(_: httpx.Request) -> httpx.Response:
        raise failure

    return idp


UNAVAILABLE = "temporarily_unavailable"
FAILED = [
    Failed(Row.IDP_INVALID_GRANT, answers(400, "invalid_grant"), "invalid_grant", 400, "http_4xx"),
    Failed(Row.IDP_INVALID_REQUEST, answers(400, "invalid_request"), "invalid_request", 400, "http_4xx"),
    Failed(Row.IDP_INVALID_SCOPE, answers(400, "invalid_scope"), "invalid_scope", 400, "http_4xx"),
    Failed(Row.IDP_INVALID_TARGET, answers(400, "invalid_target"), "invalid_target", 400, "http_4xx"),
    Failed(Row.IDP_UNSUPPORTED_GRANT_TYPE, answers(400, "unsupported_grant_type"), "unsupported_grant_type", 400,
           "http_4xx"),
    Failed(Row.IDP_UNAUTHORIZED_CLIENT, answers(400, "unauthorized_client"), "unauthorized_client", 400, "http_4xx"),
    # Our credentials, not the client's: it must not register again.
    Failed(Row.IDP_REFUSED_OUR_CREDENTIALS, answers(401, "invalid_client"), "server_error", 502, "http_4xx"),
    Failed(Row.IDP_REFUSED_OUR_CREDENTIALS, answers(401), "server_error", 502, "http_4xx"),
    # GitHub answers 200 with an error in the body.
    Failed(Row.IDP_INVALID_GRANT, answers(200, "invalid_grant"), "invalid_grant", 400, "http_4xx"),
    # Trouble that may pass is never invalid_grant.
    Failed(Row.IDP_UNREACHABLE, raises(httpx.ConnectError("refused")), UNAVAILABLE, 503, "connect_error"),
    Failed(Row.IDP_UNREACHABLE, raises(httpx.ReadError("reset")), UNAVAILABLE, 503, "connect_error"),
    Failed(Row.IDP_TIMEOUT, raises(httpx.ReadTimeout("slow")), UNAVAILABLE, 503, "timeout"),
    Failed(Row.IDP_RATE_LIMITED, answers(429, "slow_down"), UNAVAILABLE, 503, "http_4xx"),
    Failed(Row.IDP_SERVER_ERROR, answers(500), UNAVAILABLE, 502, "http_5xx"),
    Failed(Row.IDP_SERVER_ERROR, answers(503, "invalid_grant"), UNAVAILABLE, 502, "http_5xx"),
    *[Failed(Row.IDP_SERVER_ERROR, answers(400, code), UNAVAILABLE, 502, "http_4xx")
      for code in ("server_error", "temporarily_unavailable")],
    Failed(Row.IDP_UNKNOWN_ERROR, answers(400, "made_up"), UNAVAILABLE, 502, "http_4xx"),
    Failed(Row.IDP_UNKNOWN_ERROR, answers(200, "made_up"), UNAVAILABLE, 502, "http_4xx"),
    *[Failed(Row.IDP_UNEXPECTED_STATUS, lambda _, status=status: httpx.Response(status, json=TOKENS), UNAVAILABLE, 502,
             "invalid_response") for status in (201, 202, 206, 403, 404)],
    Failed(Row.IDP_UNEXPECTED_STATUS, answers(400, ""), UNAVAILABLE, 502, "invalid_response"),
    Failed(Row.IDP_UNEXPECTED_STATUS, answers(302, headers={"Location": "https://elsewhere.example/"}), UNAVAILABLE,
           502, "invalid_response"),
    Failed(Row.IDP_INVALID_RESPONSE, raises(httpx.RemoteProtocolError("not HTTP")), UNAVAILABLE, 502,
           "invalid_response"),
    *[Failed(Row.IDP_INVALID_RESPONSE, lambda _, body=body: httpx.Response(200, content=body), UNAVAILABLE, 502,
             "invalid_response")
      for body in (b"", b"<p>Hello", b"null", b"[]", b"7", b"[" * 60_000, b'{"access_token": "' + b"x" * 65_536 + b'"}',
                   b'{"error": {"code": 401, "message": "no"}}')],
    # A response that names no error, and has no access token where RFC 6749 §5.1 puts it.
    *[Failed(Row.IDP_NO_ACCESS_TOKEN, lambda _, at=at: httpx.Response(200, json={**TOKENS, "access_token": at}),
             "server_error", 502, "invalid_response") for at in ("", None, 7, [], ["at"], False)],
    Failed(Row.IDP_NO_ACCESS_TOKEN, lambda _: httpx.Response(200, json={}), "server_error", 502, "invalid_response"),
    Failed(Row.IDP_NO_ACCESS_TOKEN, lambda _: httpx.Response(200, json={"error": None}), "server_error", 502,
           "invalid_response"),
    Failed(Row.IDP_ID_TOKEN_ALONE, lambda _: httpx.Response(200, json={"id_token": "a.b.c"}), "server_error", 502,
           "invalid_response"),
    *[Failed(Row.IDP_NESTED_TOKEN, lambda _, name=name: httpx.Response(200, json={"ok": True, name: TOKENS}),
             "server_error", 502, "invalid_response") for name in ("authed_user", "data", "token")],
    # The user has to log in again: never "try again", which clients would do for ever.
    *[Failed(Row.IDP_LOGIN_REQUIRED, answers(status, code), "invalid_grant", 400, "http_4xx")
      for status, code in [(400, "interaction_required"), (400, "login_required"), (400, "consent_required"),
                           (400, "account_selection_required"), (400, "unmet_authentication_requirements"),
                           (403, "mfa_required"), (400, "access_denied"), (200, "invalid_refresh_token"),
                           (200, "token_expired"), (200, "token_revoked"), (401, "invalid_token")]],
    *[Failed(Row.IDP_INVALID_GRANT, answers(200, code), "invalid_grant", 400, "http_4xx")
      for code in ("invalid_code", "code_already_used")],
    *[Failed(Row.IDP_REFUSED_OUR_CREDENTIALS, answers(200, code), "server_error", 502, "http_4xx")
      for code in ("invalid_client_id", "bad_client_secret")],
    Failed(Row.IDP_INVALID_TARGET, answers(400, "invalid_resource"), "invalid_target", 400, "http_4xx"),
]  # fmt: skip


@pytest.mark.parametrize("grant", [code_request(), refresh_request()], ids=["code", "refresh"])
@pytest.mark.parametrize("case", FAILED, ids=lambda case: f"{case.row.reason}-{case.idp_outcome}")
async def test_an_exchange_that_fails_is_counted_and_timed_once(case: Failed, grant: dict[str, str]) -> None:
    async with RelayDoor(idp=case.idp) as door:
        before = await door.samples()
        response = await door.token(grant)

        assert response.status_code == case.status
        assert json_of(response)["error"] == case.error
        assert ("retry-after" in response.headers) == (case.status >= 500)
        labels = f'grant_type="{grant["grant_type"]}"'
        grown = increases(before, await door.samples())
        # The instrumentation's own series knows only requests that were answered.
        grown = {name: by for name, by in grown.items() if not name.startswith("http_client")}
        assert grown == {
            f'oauth_token_exchanges_total{{{labels},result="failure"}}': 1,
            f"oauth_token_exchange_duration_seconds_count{{{labels}}}": 1,
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="token",reason="{case.row.reason}"}}': 1,
            f'oauth_idp_requests_total{{operation="token",outcome="{case.idp_outcome}"}}': 1,
            f'oauth_idp_request_duration_seconds_count{{operation="token",outcome="{case.idp_outcome}"}}': 1,
        }
        assert len(door.idp_requests) == 1, "a code must never be sent twice"


async def test_a_code_is_exchanged_with_the_proxys_own_credentials(door: FrontDoor) -> None:
    """PROTOCOL T7."""
    before = await door.samples()
    response = await door.token(code_request(resource=f"{ISSUER}/mcp/"))

    assert response.status_code == 200
    assert json_of(response) == {**TOKENS, "token_type": "Bearer"}
    assert response.headers["content-type"] == "application/json"
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    (sent,) = door.idp_requests
    assert (sent.method, str(sent.url)) == ("POST", "https://idp.example/token")
    assert sent.headers["authorization"] == basic("proxy", "secret+of+the+proxy")
    assert form_of(sent) == {
        "grant_type": "authorization_code",
        "code": "the code",
        "code_verifier": CODE_VERIFIER,
        "redirect_uri": CALLBACK,
        "resource": f"{ISSUER}/mcp",
    }
    grown = increases(before, await door.samples())
    assert grown == {
        'oauth_token_exchanges_total{grant_type="authorization_code",result="success"}': 1,
        'oauth_token_exchange_duration_seconds_count{grant_type="authorization_code"}': 1,
        'oauth_idp_requests_total{operation="token",outcome="ok"}': 1,
        'oauth_idp_request_duration_seconds_count{operation="token",outcome="ok"}': 1,
    }


async def test_a_refresh_token_is_exchanged_and_its_scope_may_be_narrowed(door: FrontDoor) -> None:
    """PROTOCOL T8; that it may not be widened is the identity provider's answer, see the demo's tests."""
    response = await door.token(refresh_request(scope="mail"))
    assert response.status_code == 200
    (sent,) = door.idp_requests
    assert form_of(sent) == {"grant_type": "refresh_token", "refresh_token": "the token", "scope": "mail"}


async def test_credentials_go_into_the_form_where_the_identity_provider_wants_them_there() -> None:
    settings = {"idp_token_auth_method": "client_secret_post", "idp_token_parameters": {"audience": "api"}}
    async with RelayDoor(settings=settings) as door:
        await door.token(refresh_request())
    (sent,) = door.idp_requests
    assert "authorization" not in sent.headers
    form = form_of(sent)
    assert (form["client_id"], form["client_secret"]) == ("proxy", "secret of the proxy")
    assert form["audience"] == "api"


async def test_a_proxy_without_a_secret_is_a_public_client_of_the_identity_provider() -> None:
    async with RelayDoor(settings={"idp_client_secret": None}) as door:
        await door.token(refresh_request())
    (sent,) = door.idp_requests
    assert "authorization" not in sent.headers
    assert form_of(sent)["client_id"] == "proxy"


async def test_a_resource_is_checked_but_kept_from_an_identity_provider_that_refuses_it() -> None:
    async with RelayDoor(settings={"idp_send_resource": False}) as door:
        await door.token(code_request(resource=f"{ISSUER}/mcp"))
    assert "resource" not in form_of(door.idp_requests[0])


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        (code_request(client_id=None), {"Authorization": basic(BASIC.client_id, "secret+of+basic")}),
        (code_request(client_id="basic"), {"Authorization": basic(BASIC.client_id, "secret%20of%20basic")}),
        (code_request(client_id=POST.client_id, client_secret="secret of post"), {}),
        (code_request(client_secret=""), {}),
    ],
    ids=["basic", "basic-and-client_id", "post", "none-with-empty-secret"],
)
async def test_a_client_authenticates_as_it_registered(
    door: FrontDoor, form: dict[str, str], headers: dict[str, str]
) -> None:
    """PROTOCOL T3; the identity provider never sees the client's own credentials."""
    response = await door.token(form, headers=headers)
    assert response.status_code == 200
    assert "client_id" not in form_of(door.idp_requests[0])
    assert "client_secret" not in form_of(door.idp_requests[0])


async def test_a_failed_basic_authentication_is_challenged(door: FrontDoor) -> None:
    """PROTOCOL T3 (RFC 6749 §5.2)."""
    headers = {"Authorization": basic("basic", "wrong")}
    response = await door.token(code_request(client_id=None), headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Basic ")
    assert "www-authenticate" not in (await door.token(code_request(client_id="nobody"))).headers


@pytest.mark.parametrize(
    ("form", "authorization"),
    [
        (code_request(client_id=None), None),
        (code_request(client_id="other"), basic("basic", "secret of basic")),
        (code_request(client_id=None, client_secret="x"), basic("basic", "secret of basic")),
        (code_request(), "Bearer abc"),
        (code_request(), "Basic not!base64"),
        (code_request(client_id=None), "Basic " + base64.b64encode(b"no colon").decode()),
        (code_request(client_id=None), basic("", "x")),
        (code_request(client_id=None), "Basic " + base64.b64encode(b"\xff\xfe:x").decode()),
        (code_request(client_id=None), "Basic " + base64.b64encode(b"%ff:x").decode()),
        (code_request(client_id=None), "Basic " + base64.b64encode(b"a%00b:x").decode()),
        (code_request(), "Basic"),
    ],
)
async def test_authentication_that_cannot_be_read_or_comes_twice_is_an_invalid_request(
    door: FrontDoor, form: dict[str, str], authorization: str | None
) -> None:
    """RFC 6749 §2.3: not more than one authentication method in each request."""
    response = await door.token(form, headers={"Authorization": authorization} if authorization else {})
    assert response.status_code == 400
    assert json_of(response)["error"] == "invalid_request"
    assert await door.error_count(Row.MALFORMED_REQUEST) == 1
    assert door.idp_requests == []


async def test_the_identity_providers_retry_after_is_passed_on_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 §10.2.3 and §5.6.7: seconds, or a date in one of three forms; 5 where it is neither."""
    monkeypatch.setattr(
        "seed_oauth.identity_provider.failures.time", lambda: 784_111_777.5
    )  # half a second after that date
    for sent, passed_on in [
        *[("7", "7"), ("86400", "3600"), ("0", "0"), ("soon", "5"), ("²", "5"), ("9" * 5000, "5"), ("-7", "5")],
        *[("Sun, 06 Nov 1994 08:49:47 GMT", "10"), ("Sunday, 06-Nov-94 08:49:47 GMT", "10")],
        *[("Sun Nov  6 08:49:47 1994", "10"), ("Sun, 06 Nov 1994 08:00:00 GMT", "0")],
        *[("Fri, 31 Dec 9999 23:59:59 GMT", "3600"), ("Sun, 06 Nov 99999999 08:00:00 GMT", "5"), ("", "5")],
    ]:
        headers = [(b"retry-after", sent.encode())]
        async with RelayDoor(idp=lambda _, headers=headers: httpx.Response(429, headers=headers)) as door:
            response = await door.token(refresh_request())
        assert response.headers["retry-after"] == passed_on


async def test_nothing_of_the_identity_providers_prose_reaches_the_client() -> None:
    """THREATS 12 and 18."""
    answer = {"error": "invalid_grant", "error_description": "user bob@corp is locked", "trace_id": "internal"}
    async with RelayDoor(idp=lambda _: httpx.Response(400, json=answer)) as door:
        response = await door.token(refresh_request())
    assert "bob" not in response.text
    assert json_of(response).keys() == {"error", "error_description"}


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(500, text="ORA-01017 at /srv/idp.py"),
        httpx.Response(200, json={"error": "ORA-01017 at /srv/idp.py"}),
        httpx.Response(400, json={"error": "invalid_client", "error_uri": "https://idp.example/ORA-01017"}),
        httpx.ConnectError("ORA-01017 at /srv/idp.py"),
        RuntimeError("ORA-01017 at /srv/idp.py"),
    ],
)
async def test_no_text_of_an_exception_or_of_a_broken_identity_provider_reaches_the_client(
    failure: httpx.Response | Exception,
) -> None:
    """THREATS 18."""

    def idp(_: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return failure

    async with RelayDoor(idp=idp) as door:
        for form in (code_request(), refresh_request()):
            response = await door.token(form)
            assert response.status_code >= 500
            assert json_of(response).keys() == {"error", "error_description"}
            for text in (response.text, repr(response.headers)):
                assert "ORA-01017" not in text
                assert "idp" not in text


async def test_only_a_form_by_post_is_a_token_request(door: FrontDoor) -> None:
    """PROTOCOL T1."""
    got = await door.http.get("/oauth/token", params=code_request())
    as_json = await door.http.post("/oauth/token", json=code_request())
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert (as_json.status_code, json_of(as_json)["error"]) == (400, "invalid_request")
    assert await door.error_count(Row.METHOD_NOT_ALLOWED) == 1
    assert await door.error_count(Row.MALFORMED_REQUEST) == 1
    assert door.idp_requests == []


async def test_a_browser_based_client_may_exchange_from_its_own_origin(door: FrontDoor) -> None:
    """PROTOCOL M6."""
    preflight = await door.http.options(
        "/oauth/token",
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    response = await door.token(code_request(), headers={"Origin": "https://app.example"})
    assert response.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize("form", [code_request(), refresh_request()], ids=["code", "refresh"])
async def test_a_client_is_used_once_it_got_a_token_and_not_before(form: dict[str, str]) -> None:
    """THREATS 10: it takes a login to keep a place in the store."""
    clients = SqliteClientStore(Database("sqlite:///:memory:"))
    await clients.add(PUBLIC)
    answers = [httpx.Response(400, json={"error": "invalid_grant"}), httpx.Response(200, json=TOKENS)]

    async def is_used() -> bool:
        stored = await clients.look_up(PUBLIC.client_id)
        return stored is not None and stored.last_used_at is not None

    async with RelayDoor(idp=lambda _: answers.pop(0), clients=clients) as door:
        await door.authorize()
        assert (await door.token(form)).status_code == 400
        assert not await is_used()
        assert (await door.token(form)).status_code == 200
        assert await is_used()


async def test_a_client_that_cannot_be_marked_as_used_gets_its_token_all_the_same() -> None:
    class Unmarkable(KnownClients):
        async def mark_used(self, client_id: str, subject: str | None = None) -> None:
            raise StoreError("ReadOnlyError")

    async with RelayDoor(idp=lambda _: httpx.Response(200, json=TOKENS), clients=Unmarkable(PUBLIC)) as door:
        assert (await door.token(code_request())).status_code == 200


async def test_an_answer_to_no_script_has_nothing_for_scripts_and_is_in_no_cache(door: FrontDoor) -> None:
    """PROTOCOL M6."""
    response = await door.token(code_request())
    assert not [name for name in response.headers if name.startswith("access-control-")]
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        ({"error": "", "error_description": "none"}, {"error_description": "none"}),
        ({"error": None}, {}),
        ({"scope": None, "refresh_token": None, "id_token": None, "expires_in": None}, {}),
        ({"scope": ["mail", "files"]}, {"scope": "mail files"}),
        ({"scope": "  mail   files "}, {"scope": "mail files"}),
        ({"scope": ""}, {}),
        ({"scope": {"mail": True}, "refresh_token": "", "id_token": 7, "expires_in": "soon"}, {}),
        ({"expires_in": "3600"}, {"expires_in": 3600}),
        ({"expires_in": 3599.6}, {"expires_in": 3599}),
        ({"expires_in": True}, {}),
        ({"not_before": 7, "id_token": "a.b.c"}, {"not_before": 7, "id_token": "a.b.c"}),
    ],
)
async def test_the_relay_gives_token_responses_the_form_that_clients_read(
    sent: dict[str, object], passed_on: dict[str, object]
) -> None:
    """RFC 6749 §5.1; the schemas of MCP's SDKs refuse `null`, lists and numbers as text."""
    async with RelayDoor(idp=lambda _: httpx.Response(200, json={"access_token": "at", **sent})) as door:
        response = await door.token(code_request())
        assert json_of(response) == {"access_token": "at", "token_type": "Bearer", **passed_on}


@pytest.mark.parametrize("words", ["error_description", "errorSummary", "message"])
async def test_what_the_identity_provider_said_is_logged_without_what_it_was_sent(words: str) -> None:
    """THREATS 12: its words may repeat the request."""

    def idp(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": "invalid_grant", words: f"bob: {request.content.decode()}\r\n!"})

    async with RelayDoor(idp=idp, settings={"idp_token_auth_method": "client_secret_post"}) as door:
        with capture_logs() as lines:
            await door.token(code_request(code="0.code/of+the idp"))
            await door.token(refresh_request(refresh_token="1//token of it"))
    for line in lines:
        assert (line["idp_status"], line["idp_error"]) == (400, "invalid_grant")
        assert line["idp_said"].startswith("bob: grant_type=")
        assert line["idp_said"].isprintable()
    logged = str(lines)
    for secret in ("0.code", "of+the", "token of", "token+of", CODE_VERIFIER, "secret of the proxy", "secret+of"):
        assert secret not in logged
