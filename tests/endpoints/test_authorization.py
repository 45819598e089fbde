"""What both flows check, in the relay flow; test_broker_authorization.py has what the broker flow adds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest

from seed_oauth.outcomes import AuthorizationOutcome as Row
from tests.broker import link_in
from tests.harness import (
    CALLBACK,
    CODE_CHALLENGE,
    DOCUMENT_DOWN,
    DOCUMENT_GONE,
    ISSUER,
    PREREGISTERED,
    BrokenStore,
    FrontDoor,
    RelayDoor,
    apart_from_documents,
    authorization_request,
    code_request,
    increases,
    json_of,
    query_of,
    registration_request,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


@dataclass
class Case:
    """A request that ends in `row`: what is changed in a good one, and where the error may be delivered."""

    row: Row
    changes: Mapping[str, str | None]
    error: str
    redirected: bool = True
    """Whether client and redirect_uri are known to be good."""
    status: int = 400
    result: str = "error"
    settings: Mapping[str, Any] = field(default_factory=dict)
    broken_store: bool = False


CASES = [
    # The specification's points 1 to 7.
    Case(Row.NOT_CONFIGURED, {}, "server_error", status=503, settings={"idp_authorization_url": None}),
    Case(Row.NOT_CONFIGURED, {"client_id": "?"}, "server_error", redirected=False, status=503,
         settings={"idp_authorization_url": None}),
    Case(Row.BAD_CODE_CHALLENGE_METHOD, {"code_challenge_method": "plain"}, "invalid_request"),
    # PROTOCOL A2: missing means plain.
    Case(Row.BAD_CODE_CHALLENGE_METHOD, {"code_challenge_method": None}, "invalid_request"),
    Case(Row.BAD_CODE_CHALLENGE_METHOD, {"code_challenge_method": "s256"}, "invalid_request"),
    # PROTOCOL A3.
    Case(Row.BAD_CODE_CHALLENGE_LENGTH, {"code_challenge": "a" * 42}, "invalid_request"),
    Case(Row.BAD_CODE_CHALLENGE_LENGTH, {"code_challenge": "a" * 129}, "invalid_request"),
    Case(Row.BAD_CODE_CHALLENGE_LENGTH, {"code_challenge": None}, "invalid_request"),
    Case(Row.BAD_CODE_CHALLENGE_FORMAT, {"code_challenge": "a" * 42 + "+"}, "invalid_request"),
    Case(Row.BAD_CODE_CHALLENGE_FORMAT, {"code_challenge": "a" * 42 + "é"}, "invalid_request"),
    # PROTOCOL A4, THREATS 8: never a redirect to somewhere unverified.
    Case(Row.UNKNOWN_CLIENT, {"client_id": "nobody"}, "invalid_client", redirected=False, result="invalid_client"),
    Case(Row.UNKNOWN_CLIENT, {"client_id": None}, "invalid_client", redirected=False, result="invalid_client"),
    # PROTOCOL R5.
    Case(Row.BAD_CLIENT_DOCUMENT, {"client_id": DOCUMENT_GONE}, "invalid_client", redirected=False,
         result="invalid_client"),
    Case(Row.BAD_CLIENT_DOCUMENT, {"client_id": "https://app.example/../"}, "invalid_client", redirected=False,
         result="invalid_client"),
    Case(Row.CLIENT_DOCUMENT_UNAVAILABLE, {"client_id": DOCUMENT_DOWN}, "temporarily_unavailable",
         redirected=False, status=503),
    Case(Row.UNKNOWN_CLIENT, {"client_id": DOCUMENT_GONE}, "invalid_client", redirected=False,
         result="invalid_client", settings={"client_id_metadata_documents": False}),
    # What the operator does not allow.
    *(
        Case(Row.CLIENT_NOT_ALLOWED, {"client_id": DOCUMENT_GONE}, "unauthorized_client", redirected=False, status=403,
             result="invalid_client", settings=settings)
        for settings in (
            {"client_document_hosts": "app.example"}, {"client_document_hosts": "*.gone.example"},
            {"denied_client_document_hosts": "gone.example"},
            {"denied_client_document_hosts": "*.example", "client_document_hosts": "gone.example"},
        )
    ),
    Case(Row.CLIENT_NOT_ALLOWED, {}, "unauthorized_client", redirected=False, status=403, result="invalid_client",
         settings={"redirect_hosts": "other.example"}),
    Case(Row.BAD_REDIRECT_URI, {"redirect_uri": "https://evil.example/"}, "invalid_request", redirected=False),
    Case(Row.BAD_REDIRECT_URI, {"redirect_uri": None}, "invalid_request", redirected=False),
    Case(Row.CLIENT_LOOKUP_FAILED, {}, "server_error", redirected=False, status=503, broken_store=True),
    # Nobody is looked up where nobody is named.
    Case(Row.UNKNOWN_CLIENT, {"client_id": None}, "invalid_client", redirected=False, result="invalid_client",
         broken_store=True),
    # PROTOCOL A1.
    Case(Row.MISSING_RESPONSE_TYPE, {"response_type": None}, "invalid_request"),
    Case(Row.UNSUPPORTED_RESPONSE_TYPE, {"response_type": "token"}, "unsupported_response_type"),
    Case(Row.UNSUPPORTED_RESPONSE_TYPE, {"response_type": "code token"}, "unsupported_response_type"),
    Case(Row.BAD_SCOPE, {"scope": 'a "b"'}, "invalid_scope"),
    # PROTOCOL A9.
    Case(Row.BAD_RESOURCE, {"resource": "https://other.example/mcp"}, "invalid_target"),
    Case(Row.BAD_RESOURCE, {"resource": f"{ISSUER}/mcp#fragment"}, "invalid_target"),
    Case(Row.BAD_RESOURCE, {"resource": "mcp"}, "invalid_target"),
    # Which row is counted is one question, how it is delivered another.
    Case(Row.BAD_CODE_CHALLENGE_METHOD, {"code_challenge_method": "plain", "client_id": "nobody"},
         "invalid_request", redirected=False),
    Case(Row.BAD_CODE_CHALLENGE_LENGTH, {"code_challenge": "short", "redirect_uri": "https://evil.example/"},
         "invalid_request", redirected=False),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row.reason}-{case.changes}")
async def test_a_request_that_fails_a_check_is_answered_and_counted_as_its_row(case: Case) -> None:
    """PROTOCOL A1, A2, A3, A4, A9 and A14; THREATS 8 and 22: each case says which."""
    clients = BrokenStore() if case.broken_store else None
    async with RelayDoor(settings=case.settings, clients=clients) as door:
        before = await door.samples()
        response = await door.authorize(**case.changes)

        assert response.status_code == case.status
        assert "location" not in response.headers
        assert json_of(response)["error"] == case.error
        assert response.headers["cache-control"] == "no-store"
        grown = increases(before, await door.samples())
        assert apart_from_documents(grown, len(door.document_requests)) == {
            f'oauth_authorization_requests_total{{result="{case.result}"}}': 1,
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="authorize",reason="{case.row.reason}"}}': 1,
        }
        assert door.idp_requests == []


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"denied_client_document_hosts": "gone.example"}, {"client_id": DOCUMENT_GONE}),
        ({"redirect_hosts": "other.example"}, {}),
    ],
)
async def test_the_page_says_whom_to_ask_to_allow_a_client(settings: dict[str, Any], changes: dict[str, str]) -> None:
    async with RelayDoor(settings={**settings, "contact": "it@example.com"}) as door:
        page = await door.http.get(
            "/oauth/authorize", params=authorization_request(**changes), headers={"Accept": "text/html"}
        )
        assert page.status_code == 403
        assert "ask it@example.com to allow it" in page.text
        assert door.document_requests == []


async def test_trusted_and_local_clients_are_not_restricted_by_the_hosts_of_redirect_uris() -> None:
    trusted = {"client_id": "trusted", "redirect_uris": [CALLBACK]}
    async with RelayDoor(settings={"redirect_hosts": "other.example", "clients": [trusted]}) as door:
        assert (await door.authorize(client_id="trusted")).status_code == 302
        assert (await door.authorize(redirect_uri="http://127.0.0.1:4000/callback")).status_code == 302


@pytest.mark.parametrize("path", ["/authorize", "/token", "/register"])
async def test_clients_that_read_no_metadata_find_the_endpoints_at_the_root(door: FrontDoor, path: str) -> None:
    """MCP 2025-03-26, "Fallbacks for Servers without Metadata": they are answered, and counted."""
    before = await door.samples()
    if path == "/authorize":
        answer = await door.http.get(path, params=authorization_request())
    elif path == "/token":
        answer = await door.http.post(path, data=code_request())
    else:
        answer = await door.http.post(path, json=registration_request(), headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.status_code in {200, 201, 302}
    assert increases(before, await door.samples())


REDIRECTED = [case for case in CASES if case.redirected]


@pytest.mark.parametrize("case", REDIRECTED, ids=lambda case: f"{case.row.reason}-{case.changes}")
async def test_a_client_that_the_operator_registered_is_told_by_redirect(case: Case) -> None:
    """PROTOCOL A5 and A8: with state as sent and our issuer."""
    async with FrontDoor(settings=case.settings) as door:
        before = await door.samples()
        response = await door.authorize(client_id=PREREGISTERED, **case.changes)
        assert response.status_code == 302
        assert response.headers["location"].startswith(f"{CALLBACK}?")
        told = query_of(response.headers["location"])
        assert (told["error"], told["state"], told["iss"]) == (case.error, "opaque state", ISSUER)
        assert increases(before, await door.samples()) == {
            f'oauth_authorization_requests_total{{result="{case.result}"}}': 1,
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="authorize",reason="{case.row.reason}"}}': 1,
        }


@pytest.mark.parametrize("case", REDIRECTED, ids=lambda case: f"{case.row.reason}-{case.changes}")
async def test_nobody_is_sent_to_a_client_that_anybody_may_have_registered_but_by_their_own_click(case: Case) -> None:
    """PROTOCOL A14 (RFC 9700 §4.11.2): the link tells the client what a redirect would have told it."""
    async with FrontDoor(settings=case.settings) as door:
        response = await door.http.get(
            "/oauth/authorize", params=authorization_request(**case.changes), headers={"Accept": "text/html"}
        )
    assert response.status_code == case.status
    assert "location" not in response.headers
    assert "http-equiv" not in response.text
    told = query_of(link_in(response))
    assert (told["error"], told["state"], told["iss"]) == (case.error, "opaque state", ISSUER)


@pytest.mark.parametrize("flow", ["relay", "broker"])
async def test_this_server_is_no_place_to_be_sent_back_to_on_whatever_port_a_program_may_wait(flow: str) -> None:
    """THREATS 22: RFC 8252 §7.3 makes ours one of those ports."""
    settings = {"issuer": "http://127.0.0.1:8000", "flow": flow}
    async with FrontDoor(settings=settings) as door:
        registered = json_of(await door.register(redirect_uris=["http://127.0.0.1/oauth/callback"]))
        changes = {"client_id": registered["client_id"], "redirect_uri": "http://127.0.0.1:8000/oauth/callback"}
        assert (await door.authorize(**changes)).status_code == 400
        assert await door.error_count(Row.BAD_REDIRECT_URI) == 1


UNREGISTERED = [
    "https://evil.example/",
    "//evil.example/callback",
    "javascript:alert('evil')",
    # Beginnings, ends and other spellings of what is registered, https://app.example/callback.
    "https://app.example/callback/evil",
    "https://app.example/callback?to=evil",
    "https://app.example/callback#evil",
    "https://app.example/callback/../evil",
    "https://app.example/callback%2f..%2fevil",
    "https://app.example%2fcallback",
    "https://app.example:443/callback",
    "https://app.example./callback",
    "HTTPS://app.example/callback",
    "https://\u0430pp.example/callback",
    "https://xn--pp-6kc.example/callback",
    # Another host that looks like it.
    "https://app.example.evil.example/callback",
    "https://app.example@evil.example/callback",
    "https://evil.example\\@app.example/callback",
    "https://evil.example/https://app.example/callback",
    # Hosts that are no loopback, though http://127.0.0.1/callback is registered for any port.
    "http://127.0.0.1.evil.example/callback",
    "http://127.0.0.1:80@evil.example/callback",
    "http://localhost.evil.example/callback",
    "http://127.0.0.2/callback",
    "http://[::1%25eth0]/callback",
]


@pytest.mark.parametrize("redirect_uri", UNREGISTERED)
async def test_whatever_is_wrong_besides_nobody_is_sent_to_an_unregistered_redirect_uri(redirect_uri: str) -> None:
    """PROTOCOL A4 and A6; THREATS 7 and 8."""
    async with RelayDoor() as door:
        for changes in [{}, *(case.changes for case in CASES if "redirect_uri" not in case.changes)]:
            form = authorization_request(**{**changes, "redirect_uri": redirect_uri})
            for response in (
                await door.http.get("/oauth/authorize", params=form, headers={"Accept": "text/html"}),
                await door.http.post("/oauth/authorize", data=form),
            ):
                assert response.status_code in {400, 503}
                assert "location" not in response.headers
                assert "http-equiv" not in response.text
                assert "evil" not in response.text
        assert await door.value("oauth_authorization_requests_total", result="success") == 0


async def test_a_request_that_cannot_be_read_is_sent_nowhere(door: FrontDoor) -> None:
    """THREATS 8: one of two redirect_uris is registered, and which one is meant nobody knows."""
    evil = "redirect_uri=https://evil.example/"
    for query in (f"client_id=public&redirect_uri={CALLBACK}&{evil}", f"client_id=public&client_id=a&{evil}"):
        response = await door.http.get(f"/oauth/authorize?{query}", headers={"Accept": "text/html"})
        assert response.status_code == 400
        assert "location" not in response.headers
        assert "evil" not in response.text


async def test_a_good_request_goes_to_the_identity_provider_and_counts_as_success(door: FrontDoor) -> None:
    before = await door.samples()
    response = await door.authorize(scope="mail files", resource=f"{ISSUER}/mcp")

    assert response.status_code == 302
    assert response.headers["location"].startswith("https://idp.example/authorize?")
    assert query_of(response.headers["location"]) == {
        "response_type": "code",
        "client_id": "proxy",
        "redirect_uri": CALLBACK,
        "code_challenge": CODE_CHALLENGE,
        "code_challenge_method": "S256",
        "state": "opaque state",
        "scope": "mail files",
        "resource": f"{ISSUER}/mcp",
    }
    assert response.headers["referrer-policy"] == "no-referrer"
    assert increases(before, await door.samples()) == {'oauth_authorization_requests_total{result="success"}': 1}


async def test_parameters_that_are_absent_or_unknown_are_not_passed_on(door: FrontDoor) -> None:
    """PROTOCOL A7: unknown parameters are ignored; RFC 6749 §3.1: empty ones count as omitted."""
    response = await door.authorize(state=None, scope="", unheard_of="x", request_uri="urn:x")
    sent = query_of(response.headers["location"])
    assert sent.keys() == {
        "response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method"
    }  # fmt: skip


async def test_the_identity_providers_own_query_and_configured_parameters_survive() -> None:
    settings = {
        "idp_authorization_url": "https://idp.example/authorize?tenant=a%26b",
        "idp_authorization_parameters": {"access_type": "offline", "prompt": "consent"},
    }
    async with RelayDoor(settings=settings) as door:
        sent = query_of((await door.authorize()).headers["location"])
    assert sent["tenant"] == "a&b"
    assert (sent["access_type"], sent["prompt"]) == ("offline", "consent")


async def test_a_post_works_like_a_get(door: FrontDoor) -> None:
    """PROTOCOL A10 (OAuth 2.1 §3.1)."""
    response = await door.http.post("/oauth/authorize", data=authorization_request())
    assert response.status_code == 302
    assert response.headers["location"] == (await door.authorize()).headers["location"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_link_preview_or_a_preflight_is_not_counted(door: FrontDoor, method: str) -> None:
    """PROTOCOL A10."""
    before = await door.samples()
    response = await door.http.request(method, "/oauth/authorize", params=authorization_request())
    assert response.status_code == 405
    assert increases(before, await door.samples()) == {}


@pytest.mark.parametrize("port", ["", ":1", ":49152"])
async def test_a_loopback_client_may_come_back_on_any_port(door: FrontDoor, port: str) -> None:
    """PROTOCOL A6 (RFC 8252 §7.3)."""
    redirect_uri = f"http://127.0.0.1{port}/callback"
    response = await door.authorize(redirect_uri=redirect_uri)
    assert query_of(response.headers["location"])["redirect_uri"] == redirect_uri


@pytest.mark.parametrize(
    "written",
    ["HTTPS://DOOR.EXAMPLE/mcp", "https://door.example:443/mcp/", "https://door.example/mcp?session=1"],
)
async def test_the_resource_is_recognised_as_clients_write_it_and_passed_on_as_configured(
    door: FrontDoor, written: str
) -> None:
    """PROTOCOL A9; ChatGPT adds a query."""
    response = await door.authorize(resource=written)
    assert query_of(response.headers["location"])["resource"] == f"{ISSUER}/mcp"


async def test_the_resource_is_kept_from_an_identity_provider_that_refuses_it() -> None:
    async with RelayDoor(settings={"idp_send_resource": False}) as door:
        response = await door.authorize(resource=f"{ISSUER}/mcp")
    assert "resource" not in query_of(response.headers["location"])


@pytest.mark.parametrize("state", ["a b&c=d#e", "ünï-cödé ✓", "%0d%0aSet-Cookie:x", "'\"<>"])
async def test_state_comes_back_exactly_as_sent_and_never_breaks_a_header(door: FrontDoor, state: str) -> None:
    success = await door.authorize(state=state)
    refusal = await door.authorize(state=state, response_type="token", client_id=PREREGISTERED)
    assert query_of(success.headers["location"])["state"] == state
    assert query_of(refusal.headers["location"])["state"] == state


async def test_an_error_is_added_to_the_query_that_the_redirect_uri_has() -> None:
    callback = "https://app.example/callback?tenant=1"
    async with FrontDoor(settings={"clients": [{"client_id": "a", "redirect_uris": [callback]}]}) as door:
        response = await door.authorize(client_id="a", redirect_uri=callback, response_type="token")
    told = query_of(response.headers["location"])
    assert (told["tenant"], told["error"]) == ("1", "unsupported_response_type")


async def test_a_person_gets_a_page_that_says_what_to_do(door: FrontDoor) -> None:
    response = await door.http.get(
        "/oauth/authorize",
        params=authorization_request(client_id="nobody"),
        headers={"Accept": "text/html,application/xhtml+xml"},
    )
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert "remove the connection in your application and connect again" in response.text
    assert response.headers["x-correlation-id"] in response.text


LIMITED = {"client_id": "limited", "redirect_uris": [CALLBACK], "scope": "files:read mail"}


@pytest.mark.parametrize("flow", ["relay", "broker"])
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("files:read", 302),
        ("mail files:read", 302),
        ("mail offline_access", 302),
        ("files:write", 400),
        ("mail x", 400),
    ],
)
async def test_a_client_in_the_settings_asks_for_no_more_scopes_than_it_is_registered_for(
    asked: str, status: int, flow: str
) -> None:
    settings = {"clients": [{**LIMITED, "ask_consent": False}], "flow": flow}
    async with FrontDoor(settings=settings) as door:
        response = await door.authorize(client_id="limited", scope=asked)
        assert response.status_code == 302
        location = query_of(response.headers["location"])
        assert location.get("error") == (None if status == 302 else "invalid_scope")
        assert await door.error_count(Row.BAD_SCOPE) == (status == 400)


async def test_a_client_in_the_settings_that_names_no_scope_gets_those_that_it_is_registered_for() -> None:
    """RFC 6749 §3.3: no scope is a default, not all there are."""
    async with RelayDoor(settings={"clients": [LIMITED]}) as door:
        response = await door.authorize(client_id="limited")
    assert query_of(response.headers["location"])["scope"] == "files:read mail"


async def test_authorize_cannot_be_fetched_by_scripts_of_other_origins(door: FrontDoor) -> None:
    """PROTOCOL M6."""
    response = await door.http.get(
        "/oauth/authorize", params=authorization_request(), headers={"Origin": "https://app.example"}
    )
    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_simultaneous_requests_are_each_counted_once(door: FrontDoor) -> None:
    responses: list[httpx.Response] = []

    async def ask() -> None:
        responses.append(await door.authorize())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
    assert {response.status_code for response in responses} == {302}
    assert await door.value("oauth_authorization_requests_total", result="success") == 50
