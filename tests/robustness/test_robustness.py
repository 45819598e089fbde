"""Anything at all, in any parameter, header or body: a clear OAuth error, one count, and nothing changed."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import anyio
import anyio.lowlevel
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seed_oauth.clients.assertion import ASSERTION_TYPE
from seed_oauth.outcomes import ConsentOutcome, Outcome
from seed_oauth.telemetry.contract import ENDPOINTS
from tests.broker import BrokerDoor, link_in, request_in, target_of
from tests.harness import (
    BASIC,
    PUBLIC,
    FrontDoor,
    Headers,
    RelayDoor,
    Samples,
    authorization_request,
    code_request,
    increases,
    query_of,
    refresh_request,
    registration_request,
)

FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"

OWN_COUNTERS = ("oauth_authorization_requests", "oauth_callbacks", "oauth_dcr")

# RFC 6749 §5.2: the characters that an error_description may have.
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")

anything = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    [
        "\x00",
        "\r\n",
        "a" * 5000,
        "'\"<script>",
        "%00",
        "../..",
        "\u202e",
        "javascript:alert(1)",
        PUBLIC.client_id,
        "https://app.example/client.json",
        "https://app.example/../",
        ASSERTION_TYPE,
        "a.b.c",
        "e30.e30.e30",
    ]
)
paths = [endpoint for endpoint in ENDPOINTS.values() if endpoint != "resource"]  # which is at a path of its own
names = st.sampled_from(
    ["response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method", "state", "scope",
     "resource", "grant_type", "code", "code_verifier", "refresh_token", "client_secret", "token", "unheard_of",
     "client_assertion", "client_assertion_type"]
)  # fmt: skip
changes = st.dictionaries(names, anything, max_size=4)


def changes_of(*these: str) -> st.SearchStrategy[dict[str, str]]:
    """Anything in the place of some parameters, and beside them."""
    return st.dictionaries(st.sampled_from([*these, "unheard_of"]), anything, max_size=3)


def cookies_of(door: FrontDoor) -> bytes:
    """The cookies that a browser would send."""
    return "; ".join(f"{name}={value}" for name, value in door.http.cookies.items()).encode()


good_forms = st.sampled_from([authorization_request(), code_request(), refresh_request(), {}])
forms = st.builds(lambda good, bad: urlencode({**good, **bad}).encode(), good_forms, changes)
bodies = st.binary(max_size=300) | forms | st.just(b"a" * 70_000) | st.just(b"[" * 60_000)
header_values = st.binary(max_size=60).filter(lambda value: b"\n" not in value and b"\r" not in value)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)
metadata_names = st.sampled_from(
    ["redirect_uris", "token_endpoint_auth_method", "grant_types", "response_types", "client_name", "client_uri",
     "logo_uri", "scope", "contacts", "tos_uri", "policy_uri", "software_id", "application_type", "jwks"]
)  # fmt: skip


def outcome_named(name: str, reason: str) -> Outcome:
    (outcomes,) = (table for table, endpoint in ENDPOINTS.items() if endpoint == name)
    return outcomes[reason.upper()]


def reason_in(grown: dict[str, float]) -> str | None:
    errors = [key for key in grown if key.startswith("oauth_errors_total")]
    assert len(errors) <= 1
    found = re.search(r'reason="(\w+)"', errors[0]) if errors else None
    return found and found[1]


async def check(
    door: FrontDoor, method: str, name: str, query: bytes = b"", headers: Headers = (), body: bytes = b""
) -> None:
    before: Samples = await door.samples()
    asked_before = len(door.idp_requests)
    response = await door.receive(method, name, query, headers, body)
    after = await door.samples()
    grown = increases(before, after)
    series = {key: value for key, value in after.items() if key[0].startswith("oauth_") and not is_observed(key[0])}
    known = {key: value for key, value in before.items() if key[0].startswith("oauth_") and not is_observed(key[0])}
    exchanged = len(door.idp_requests) - asked_before

    # No stack trace, no header that was sent, one count, no new series (but for the first observation's buckets).
    assert response.status_code < 500
    for header, value in response.headers.raw:
        assert header.isascii()
        assert b"\r" not in value
        assert b"\n" not in value
    assert exchanged or series.keys() == known.keys()
    reason = reason_in(grown)
    requests = sum(by for key, by in grown.items() if key.startswith(OWN_COUNTERS))
    if reason is None:
        assert response.status_code in {200, 201, 302}
        assert requests <= 1
        return
    row = outcome_named(name, reason)
    assert requests == (0 if row.result is None else 1)
    if response.is_redirect or row is ConsentOutcome.DENIED:
        location = response.headers["location"] if response.is_redirect else link_in(response)
        assert location.startswith(PUBLIC.redirect_uris)
        assert f"error={row.error}" in location
    else:
        assert response.status_code == row.status
        told = orjson.loads(response.content)
        assert told["error"] == row.error
        assert DESCRIPTION.fullmatch(told["error_description"])


def is_observed(series: str) -> bool:
    """Whether it belongs to a histogram, which appears with its first observation."""
    return series.endswith(("_bucket", "_count", "_sum", "_created"))


def on_a_door(scenario: Callable[[BrokerDoor], Awaitable[None]], flow: str = "broker") -> None:
    async def run() -> None:
        asks = {"client_id": "mcp", "client_secret": "a secret of thirty-two characters"}
        callers = [asks] if flow == "broker" else []
        async with BrokerDoor(settings={"flow": flow, "introspection_clients": callers}) as door:
            await scenario(door)

    anyio.run(run)


tried = settings(suppress_health_check=[HealthCheck.too_slow])


@tried
@given(
    st.sampled_from(["broker", "relay"]),
    st.sampled_from(["authorize", "token", "revoke"]),
    bodies,
    header_values,
    header_values,
)
def test_any_form_with_any_headers(
    flow: str, name: str, body: bytes, authorization: bytes, content_type: bytes
) -> None:
    async def scenario(door: BrokerDoor) -> None:
        await check(door, "POST", name, b"", [(b"content-type", FORM)], body)
        await check(door, "POST", name, b"", [(b"content-type", FORM), (b"authorization", authorization)], body)
        await check(door, "POST", name, b"", [(b"content-type", content_type)], body)

    on_a_door(scenario, flow)


@tried
@given(st.sampled_from(["broker", "relay"]), bodies, header_values)
def test_any_query_with_any_headers(flow: str, query: bytes, accept: bytes) -> None:
    async def scenario(door: BrokerDoor) -> None:
        await check(door, "GET", "authorize", query, [(b"cookie", accept), (b"host", accept)])

    on_a_door(scenario, flow)


@tried
@given(changes_of("request", "decision", "remember"), bodies, header_values)
def test_any_decision_with_any_cookie(changed: dict[str, str], body: bytes, cookie: bytes) -> None:
    async def scenario(door: BrokerDoor) -> None:
        good = {"request": request_in(await door.authorize()), "decision": "approve"}
        for jar in (cookies_of(door), cookie):
            headers = [(b"content-type", FORM), (b"cookie", jar)]
            await check(door, "POST", "consent", b"", headers, urlencode({**good, **changed}).encode())
            await check(door, "POST", "consent", b"", headers, body)

    on_a_door(scenario)


@tried
@given(changes_of("state", "code", "error", "error_description", "iss", "session_state"), bodies, header_values)
def test_any_return_with_any_cookie(changed: dict[str, str], query: bytes, cookie: bytes) -> None:
    async def scenario(door: BrokerDoor) -> None:
        form = {"request": request_in(await door.authorize()), "decision": "approve"}
        onward = await door.http.post("/oauth/consent", data=form)
        good = {"state": query_of(target_of(onward))["state"], "code": "x"}
        for jar in (cookies_of(door), cookie):
            await check(door, "GET", "callback", urlencode({**good, **changed}).encode(), [(b"cookie", jar)])
            await check(door, "GET", "callback", query, [(b"cookie", jar)])

    on_a_door(scenario)


@tried
@given(st.dictionaries(metadata_names, json_values, max_size=4), st.binary(max_size=200), st.booleans())
def test_any_registration(metadata: dict[str, object], raw: bytes, complete: bool) -> None:
    async def scenario(door: BrokerDoor) -> None:
        sent = {**(registration_request() if complete else {}), **metadata}
        try:
            body = orjson.dumps(sent)
        except TypeError:  # an integer of more than 64 bits
            body = raw
        await check(door, "POST", "register", b"", [(b"content-type", JSON)], body)
        await check(door, "POST", "register", b"", [(b"content-type", JSON)], raw)

    on_a_door(scenario)


@tried
@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=20), st.sampled_from(paths))
def test_any_method(method: str, name: str) -> None:
    async def scenario(door: BrokerDoor) -> None:
        if method.upper() in {"GET", "POST", "HEAD", "OPTIONS"}:
            return
        await check(door, method, name)

    on_a_door(scenario)


@pytest.mark.slow
@pytest.mark.anyio
async def test_ten_thousand_strange_requests_leave_the_number_of_series_where_it_was() -> None:
    """THREATS 11 (CVE-2026-16100): nothing of a request, and no text of the identity provider, becomes a label."""
    odd = "odd"

    def refusing(_: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": odd, "error_description": odd})

    async with RelayDoor(idp=refusing) as door:
        await door.token(code_request())
        await door.token(refresh_request())
        with anyio.fail_after(10):  # for the first check of readiness, which has a series of its own
            while not any(name == "seed_oauth_ready" for name, _ in await door.samples()):
                await anyio.lowlevel.checkpoint()
        before = (await door.samples()).keys()
        for number in range(10_000):
            odd = f"odd-{number}"
            form = (
                code_request(client_id=odd),
                code_request(grant_type=odd),
                refresh_request(client_secret=odd),
                refresh_request(refresh_token=odd),
                authorization_request(client_id=odd, scope=odd, state=odd),
            )[number % 5]
            name = "authorize" if "state" in form else "token"
            method = odd.upper() if number % 7 == 0 else "POST"
            headers = [(b"user-agent", odd.encode()), (b"content-type", FORM)]
            await door.receive(method, name, b"", headers, urlencode(form).encode())
        assert (await door.samples()).keys() == before
    assert len(door.idp_requests) > 1_000


@pytest.mark.anyio
async def test_what_is_refused_is_not_stored() -> None:
    async with RelayDoor(known=[BASIC]) as door:
        await door.register(redirect_uris=["javascript:alert(1)"])
        await door.register(redirect_uris=[])
        assert (await door.authorize(client_id="public")).status_code == 400
        assert await door.value("oauth_dcr_registrations_total", result="success") == 0
