"""What is true of every endpoint, because the boundary makes it so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import perf_counter, time
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import structlog
from starlette.types import Message
from structlog.testing import LogCapture

from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    EndpointOutcomes,
    GrantType,
    IntrospectionOutcome,
    LogoutOutcome,
    RegistrationOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from tests.broker import BrokerDoor, PlayedMetadata, jwt_of, request_in, target_of
from tests.harness import (
    TOKENS,
    BrokenStore,
    FrontDoor,
    RelayDoor,
    authorization_request,
    code_request,
    increases,
    json_of,
    query_of,
    registration_request,
)
from tests.issued_tokens import CALLER_SECRET, CHECKED

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


FORM = "application/x-www-form-urlencoded"
ENDPOINTS: list[tuple[str, EndpointOutcomes]] = [
    ("authorize", AuthorizationOutcome),
    ("consent", ConsentOutcome),
    ("callback", CallbackOutcome),
    ("account", AccountOutcome),
    ("token", TokenOutcome),
    ("register", RegistrationOutcome),
    ("revoke", RevocationOutcome),
    ("introspect", IntrospectionOutcome),
    ("backchannel-logout", LogoutOutcome),
]
every_endpoint = pytest.mark.parametrize(("name", "outcomes"), ENDPOINTS, ids=[name for name, _ in ENDPOINTS])
every_endpoint_with_a_body = pytest.mark.parametrize(
    ("name", "outcomes"), [one for one in ENDPOINTS if one[0] != "callback"]
)


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[capture])
    yield capture.entries
    structlog.configure(processors=before)


@pytest.fixture
async def broker() -> AsyncIterator[BrokerDoor]:
    """A front door that has every endpoint."""
    async with BrokerDoor(settings=CHECKED) as front_door:
        yield front_door


async def send(door: FrontDoor, name: str, content: bytes, content_type: str = FORM) -> httpx.Response:
    """Something, to an endpoint: in the query of the callback, in the body of all others."""
    if name == "callback":
        return await door.receive("GET", name, content)
    return await door.http.post(f"/oauth/{name}", content=content, headers={"Content-Type": content_type})


async def begin(door: BrokerDoor, name: str) -> httpx.Request:
    """What a good request to an endpoint is, after everything that has to come before it."""
    path = f"/oauth/{name}"
    if name == "account":
        return door.http.build_request("GET", path)
    if name == "register":
        return door.http.build_request("POST", path, json=registration_request())
    if name == "consent":
        form = {"request": request_in(await door.authorize()), "decision": "approve"}
        return door.http.build_request("POST", path, data=form)
    if name == "callback":
        onward = await door.http.send(await begin(door, "consent"))
        state = query_of(target_of(onward))["state"]
        return door.http.build_request("GET", path, params={"state": state, "code": "x"})
    forms = {
        "authorize": authorization_request(),
        "token": code_request(),
        "backchannel-logout": {"logout_token": jwt_of({})},
        "introspect": {"token": "x", "client_id": "files", "client_secret": CALLER_SECRET},
    }
    return door.http.build_request("POST", path, data=forms.get(name, {"token": "x", "client_id": "public"}))


def counted_once(name: str, row: Any) -> dict[str, float]:
    """What grows when an endpoint's request ends in an error row."""
    grown = {f'oauth_errors_total{{cause="{row.cause}",endpoint="{name}",reason="{row.reason}"}}': 1.0}
    own = {
        "authorize": "oauth_authorization_requests_total",
        "consent": "oauth_authorization_requests_total",
        "callback": "oauth_callbacks_total",
        "register": "oauth_dcr_registrations_total",
    }
    if row.result is not None:
        grown[f'{own[name]}{{result="{row.result}"}}'] = 1.0
    return grown


@every_endpoint
async def test_a_method_that_is_not_allowed_is_answered_405(
    broker: BrokerDoor, name: str, outcomes: EndpointOutcomes
) -> None:
    before = await broker.samples()
    response = await broker.http.request("DELETE", f"/oauth/{name}")
    assert response.status_code == 405
    assert response.headers["allow"] == {"authorize": "GET, POST", "callback": "GET", "account": "GET, POST"}.get(
        name, "POST"
    )
    assert json_of(response)["error"] == "invalid_request"
    assert increases(before, await broker.samples()) == counted_once(name, outcomes.METHOD_NOT_ALLOWED)


@every_endpoint
async def test_more_than_64_kib_are_answered_413(broker: BrokerDoor, name: str, outcomes: EndpointOutcomes) -> None:
    before = await broker.samples()
    content_type = "application/json" if name == "register" else FORM
    response = await send(broker, name, b"a" * (64 * 1024 + 1), content_type)
    assert response.status_code == 413
    assert increases(before, await broker.samples()) == counted_once(name, outcomes.BODY_TOO_LARGE)


async def test_a_query_of_more_than_64_kib_is_answered_413(door: FrontDoor) -> None:
    """The header fields and the line before them have bounds of their own (`server/connections.py`)."""
    before = await door.samples()
    response = await door.receive("GET", "authorize", b"state=" + b"a" * 64 * 1024)
    assert response.status_code == 413
    grown = increases(before, await door.samples())
    assert grown == counted_once("authorize", AuthorizationOutcome.BODY_TOO_LARGE)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/.well-known/oauth-authorization-server", "/nothing"])
async def test_a_query_that_nobody_asked_for_is_not_looked_at(door: FrontDoor, path: str) -> None:
    plain, long = await door.http.get(path), await door.http.get(path, params={"x": "a" * 60_000})
    assert (plain.status_code, plain.content) == (long.status_code, long.content)


FIRST_READ = {"consent": b"request", "account": b"request", "callback": b"state", "backchannel-logout": b"logout_token"}


@every_endpoint
@pytest.mark.parametrize(
    "content",
    [
        b"client_id=a&client_id=b",
        b"client_id=%ff",
        b"client_id=\xff",
        b"client_id=%00",
        b"client_id=a%0d%0ab",
        b"&".join(b"p%d=1" % number for number in range(65)),
    ],
)
async def test_what_cannot_be_read_is_answered_400(
    broker: BrokerDoor, name: str, outcomes: EndpointOutcomes, content: bytes
) -> None:
    """PROTOCOL A7: a parameter sent twice is an invalid_request."""
    before = await broker.samples()
    response = await send(broker, name, content.replace(b"client_id", FIRST_READ.get(name, b"client_id")))
    assert response.status_code == 400
    assert json_of(response)["error"] in {"invalid_request", "invalid_client_metadata"}
    assert increases(before, await broker.samples()) == counted_once(name, outcomes.MALFORMED_REQUEST)


@every_endpoint_with_a_body
@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x"])
async def test_a_body_of_another_type_is_answered_400(
    broker: BrokerDoor, name: str, outcomes: EndpointOutcomes, content_type: str
) -> None:
    before = await broker.samples()
    response = await send(broker, name, b"client_id=a", content_type)
    assert response.status_code == 400
    assert increases(before, await broker.samples()) == counted_once(name, outcomes.MALFORMED_REQUEST)


async def test_a_query_is_read_as_strictly_as_a_body(door: FrontDoor) -> None:
    good = urlencode(authorization_request(state=None))
    for query in ("state=a&state=b", "state=%ff", "state=%00", "redirect_uri=%00", "scope=a&scope=a"):
        response = await door.http.get(f"/oauth/authorize?{good}&{query}")
        assert response.status_code == 400
        assert "location" not in response.headers
    assert await door.error_count(AuthorizationOutcome.MALFORMED_REQUEST) == 5


@every_endpoint
async def test_an_unforeseen_exception_is_a_500_that_tells_nothing(
    name: str, outcomes: EndpointOutcomes, log_lines: list[Any]
) -> None:
    """THREATS 18."""
    failure = RuntimeError("password=hunter2")
    in_a_login = name in {"consent", "callback", "account"}
    metadata = PlayedMetadata()

    def now() -> float:
        # Introspection needs nothing else that could fail.
        if name == "introspect" and metadata.failure is not None:
            raise failure
        return time()

    clients = None if in_a_login else BrokenStore(failure)
    async with BrokerDoor(clients=clients, metadata=metadata, settings=CHECKED, now=now) as door:
        request = await begin(door, name)
        metadata.failure = failure
        before = await door.samples()
        log_lines.clear()
        response = await door.http.send(request)
        assert response.status_code == 500
        assert json_of(response)["error"] == "server_error"
        assert "hunter2" not in response.text
        assert increases(before, await door.samples()) == counted_once(name, outcomes.UNEXPECTED)
    assert {line["event"] for line in log_lines} == {"unexpected", "request"}


async def never(_: object) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def call(
    door: FrontDoor, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]], name: str
) -> None:
    """One POST to an endpoint as a server would call it."""
    content_type = b"application/json" if name == "register" else FORM.encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/oauth/{name}",
        "query_string": b"",
        "headers": [(b"content-type", content_type)],
    }
    await door.app(scope, receive, send)


@every_endpoint_with_a_body
async def test_a_client_that_goes_away_while_sending_is_counted_once(
    broker: BrokerDoor, name: str, outcomes: EndpointOutcomes
) -> None:
    before = await broker.samples()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    await call(broker, receive, send, name)
    assert increases(before, await broker.samples()) == counted_once(name, outcomes.CANCELLED)


@every_endpoint_with_a_body
async def test_a_request_that_the_server_cancels_is_counted_once_and_stays_cancelled(
    broker: BrokerDoor, name: str, outcomes: EndpointOutcomes
) -> None:
    before = await broker.samples()
    waiting = asyncio.Event()

    async def receive() -> Message:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(_: Message) -> None:
        raise AssertionError

    request = asyncio.create_task(call(broker, receive, send, name))
    await waiting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert increases(before, await broker.samples()) == counted_once(name, outcomes.CANCELLED)


async def test_a_callback_that_the_server_cancels_is_counted_once_and_stays_cancelled() -> None:
    metadata = PlayedMetadata()
    async with BrokerDoor(metadata=metadata) as door:
        callback = await begin(door, "callback")
        before = await door.samples()
        metadata.hold = asyncio.Event()
        request = asyncio.create_task(door.http.send(callback))
        await metadata.hold.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert increases(before, await door.samples()) == counted_once("callback", CallbackOutcome.CANCELLED)


async def test_an_exchange_that_is_cancelled_stops_its_timer_and_is_one_failure() -> None:
    started = asyncio.Event()

    async def idp(request: httpx.Request) -> httpx.Response:
        started.set()
        return await never(request)

    async with RelayDoor(idp=idp) as door:
        request = asyncio.create_task(door.token(code_request()))
        await started.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        grant_type = GrantType.AUTHORIZATION_CODE
        assert await door.value("oauth_token_exchanges_total", grant_type=grant_type, result="failure") == 1
        assert await door.value("oauth_token_exchange_duration_seconds_count", grant_type=grant_type) == 1
        assert await door.value("oauth_idp_requests_total", operation="token", outcome="cancelled") == 1
        assert await door.error_count(TokenOutcome.CANCELLED) == 1


async def test_a_client_that_is_gone_before_its_answer_is_counted_by_how_the_exchange_ended() -> None:
    """The server goes on (the code is spent at the identity provider) and the answer goes nowhere."""

    async def gone(_: Message) -> None:
        raise OSError("the connection is closed")

    body = httpx.Request("POST", "http://x", data=code_request()).content

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async with RelayDoor(idp=lambda _: httpx.Response(200, json=TOKENS)) as door:
        with pytest.raises(OSError, match="closed"):
            await call(door, receive, gone, "token")
        labels = {"grant_type": "authorization_code", "result": "success"}
        assert await door.value("oauth_token_exchanges_total", **labels) == 1


async def test_each_request_logs_one_line_with_its_row_and_the_correlation_id_of_its_response(
    log_lines: list[Any], door: FrontDoor
) -> None:
    begun = perf_counter()
    good = await door.authorize()
    elapsed = (perf_counter() - begun) * 1000
    bad = await door.token(code_request(code_verifier=None))
    first, second = log_lines
    assert first["outcome"] == "redirected_to_idp"
    assert first["correlation_id"] == good.headers["x-correlation-id"]
    assert 0 <= first["duration_ms"] <= elapsed + 0.01, "milliseconds, rounded"
    assert (second["endpoint"], second["outcome"], second["cause"]) == ("token", "bad_code_verifier", "client")
    assert second["correlation_id"] == bad.headers["x-correlation-id"] != first["correlation_id"]
    assert second["log_level"] == "info"


async def test_trouble_of_ours_or_of_the_identity_provider_is_a_warning(log_lines: list[Any]) -> None:
    async with RelayDoor(idp=lambda _: httpx.Response(503)) as door:
        await door.token(code_request())
    assert [line["log_level"] for line in log_lines] == ["warning"]
