"""Clients that are slow, silent, broken or too many: what they see, what is counted, and that others are served."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seed_oauth import create_metrics_app
from seed_oauth.outcomes import AuthorizationOutcome, TokenOutcome
from seed_oauth.server.connection_limits import Limits
from seed_oauth.server.connections import Connections
from seed_oauth.telemetry.contract import IdpOutcome
from tests.broker import Clock
from tests.faults.fault import Fault, counted
from tests.faults.served import (
    FORM_HEAD,
    ROOMY,
    RawClient,
    Served,
    connect,
    connections_of,
    served,
    served_door,
    token_request,
)
from tests.harness import Samples, authorization_request, increases
from tests.integration.real_parts import eventually

pytestmark = pytest.mark.anyio

TITLE = "Clients"
FAULTS: list[Fault] = []

Scenario = Callable[[Served], Awaitable[str]]


@dataclass(frozen=True)
class Case:
    """A fault, and how it is brought about."""

    fault: Fault
    scenario: Scenario
    """Gives what the client saw."""
    limits: Limits
    times: int
    """How many requests it happens to."""


CASES: list[Case] = []


def fault(*, limits: Limits = ROOMY, times: int = 1, **fields: Any) -> Callable[[Scenario], Scenario]:
    """List a fault, which the decorated scenario brings about."""

    def add(scenario: Scenario) -> Scenario:
        CASES.append(Case(Fault(**fields), scenario, limits, times))
        FAULTS.append(CASES[-1].fault)
        return scenario

    return add


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

SOON = 0.3
"""Seconds; whatever waits for it is looked at once a second."""
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
NOBODY = "nothing"
CLOSES = "the connection closes"
RESET = "the connection is reset"


async def refused(client: RawClient) -> str:
    """Why, after which the connection closes."""
    return f"{await client.answer()}, then {await client.sees_the_end()}"


# Clients that go


@fault(
    name="disconnects before the response",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=NOBODY,
    afterwards="the exchange continues, because the code is spent either way; it is counted once, by its result",
)
async def gone_before_the_answer(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request())
    await at.idp.asked.wait()
    client.leave()
    at.idp.may_answer.set()
    return NOBODY


@fault(
    name="disconnects in the middle of its body",
    outcome=TokenOutcome.CANCELLED,
    client_sees=NOBODY,
    afterwards="the identity provider receives nothing",
)
async def gone_in_the_body(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request()[:-10])
    await eventually(lambda: at_work(at))
    client.leave()
    return NOBODY


@fault(
    name="half-closes after its request",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    afterwards="the connection closes after the response",
    client_sees="200",
)
async def half_closed(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request())
    client.writer.write_eof()
    await at.idp.asked.wait()
    at.idp.may_answer.set()
    answer = await client.answer()
    assert answer.headers["connection"] == "close"
    await client.sees_the_end()
    return str(answer)


@fault(
    name="half-closes in the middle of its body",
    outcome=TokenOutcome.CANCELLED,
    client_sees=CLOSES,
    afterwards="the identity provider receives nothing",
)
async def half_closed_in_the_body(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request()[:-10])
    await eventually(lambda: at_work(at))
    client.writer.write_eof()
    return await client.sees_the_end()


# Clients that are slow


@fault(
    name="slowloris: sends the head byte by byte",
    limits=replace(ROOMY, head=SOON),
    outcome=None,
    client_sees=f"408 `invalid_request`, then {CLOSES}",
    afterwards=f"it has {ROOMY.head:.0f} seconds and occupies one socket",
)
async def slow_head(at: Served) -> str:
    client = await at.connect()
    await client.send(*(bytes([byte]) for byte in FORM_HEAD))
    return await refused(client)


@fault(
    name="silent from the start",
    limits=replace(ROOMY, head=SOON),
    outcome=None,
    client_sees=CLOSES,
    afterwards=f"it has {ROOMY.head:.0f} seconds and occupies one socket",
)
async def silent(at: Served) -> str:
    return await (await at.connect()).sees_the_end()


@fault(
    name="silent after a response",
    limits=replace(ROOMY, idle=SOON),
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=f"302, then {CLOSES}",
    afterwards=f"it has {ROOMY.idle:.0f} seconds for the next request; load balancers must close first",
)
async def silent_after_an_answer(at: Served) -> str:
    client = await at.connect()
    await client.send(authorization())
    return await refused(client)


@fault(
    name="slowloris: sends the body byte by byte",
    limits=replace(ROOMY, body=SOON),
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"408 `invalid_request`, then {CLOSES}",
    afterwards=f"it has {ROOMY.body:.0f} seconds, plus one for each {ROOMY.body_rate} bytes",
)
async def slow_body(at: Served) -> str:
    client = await at.connect()
    await client.send(*(bytes([byte]) for byte in token_request()[:-1]))
    return await refused(client)


@fault(
    name="slowloris: sends the head of a second request during the first",
    limits=replace(ROOMY, head=SOON, early_response=SOON),
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=f"200, then 408 `invalid_request`, then {CLOSES}",
    afterwards="the first is answered; the time of the second starts then",
)
async def slow_second_head(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request())
    await at.idp.asked.wait()
    await client.send(FORM_HEAD)
    at.idp.may_answer.set()
    return f"{await client.answer()}, then {await refused(client)}"


@fault(
    name="slowloris: continues a body after the response",
    limits=replace(ROOMY, head=SOON, body=10 * SOON),
    outcome=TokenOutcome.METHOD_NOT_ALLOWED,
    client_sees=f"405 `invalid_request`, then {CLOSES}",
    afterwards="the rest has the time of a head",
)
async def slow_unwanted_body(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD.replace(b"POST", b"PUT") + b"Content-Length: 1000\r\n\r\n")
    return await refused(client)


@fault(
    name="sends less than its Content-Length",
    limits=replace(ROOMY, body=SOON),
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"408 `invalid_request`, then {CLOSES}",
    afterwards="the identity provider receives nothing",
)
async def undelivered(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + b"Content-Length: 1000\r\n\r\n")
    return await refused(client)


@fault(
    name="never reads responses",
    limits=replace(ROOMY, idle=SOON, unread=SOON),
    times=10,
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=RESET,
    afterwards=f"it has {ROOMY.unread:.0f} seconds to read; at most 64 KiB are buffered for it",
)
async def never_reads(at: Served) -> str:
    client = await at.connect(reads=False)
    await client.send(*[authorization(state="s" * 4000)] * 10)
    await eventually(partial(are_connected, at.connections, 0))
    return RESET


@fault(
    name="a scraper never reads",
    limits=replace(ROOMY, idle=SOON, unread=SOON),
    outcome=None,
    client_sees=RESET,
    afterwards="the same for the metrics listener, which has its own 64 connections",
)
async def scraper_never_reads(at: Served) -> str:
    async with served(create_metrics_app(at.door.pipeline.registry), at.connections.limits) as metrics:
        state = connections_of(metrics)
        client = await connect(metrics, reads=False)
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n")
        await eventually(partial(are_connected, state, 1))
        await eventually(partial(are_connected, state, 0))
        client.leave()
    return RESET


# Requests that are too much, or none


@fault(
    name="pipelines requests",
    times=5,
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees="302",
    afterwards="each is answered, in order",
)
async def pipelined(at: Served) -> str:
    client = await at.connect()
    await client.send(b"".join(authorization(state=str(number)) for number in range(5)))
    answers = [await client.answer() for _ in range(5)]
    for number, answer in enumerate(answers):
        assert f"state={number}&" in answer.headers["location"] + "&"
    return ", ".join({str(answer) for answer in answers})


@fault(
    name="pipelines requests endlessly",
    times=33,
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=f"302, then {CLOSES}",
    afterwards=f"{ROOMY.pipelined} are queued; the rest is dropped",
)
async def pipelined_without_end(at: Served) -> str:
    client = await at.connect()
    client.writer.write(authorization() * 100)
    for _ in range(32):
        await client.answer()
    return await refused(client)


@fault(
    name="requests an upgrade and hides a request in the body",
    outcome=TokenOutcome.MISSING_PARAMETER,
    client_sees="400 `invalid_request`",
    afterwards="the body is parsed as the body, not as a request, which behind a proxy would be another client's",
)
async def smuggled(at: Served) -> str:
    """RFC 9112 §11.2."""
    client = await at.connect()
    await client.send(FORM_HEAD + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(authorization()))
    await client.send(authorization())
    return str(await client.answer())


@fault(
    name="requests an upgrade and goes on with HTTP/1.1",
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees="302",
    times=2,
    afterwards="the upgrade is ignored, and both requests are answered",
)
async def asks_for_another_protocol(at: Served) -> str:
    """RFC 9110 §7.8."""
    client = await at.connect()
    await client.send(authorization().replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n"))
    await client.answer()
    await client.send(authorization())
    return str(await client.answer())


@fault(
    name="requests an upgrade and uses it at once",
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=f"302, then {CLOSES}",
    afterwards="the request is answered as HTTP/1.1; the rest is not HTTP/1.1",
)
async def changes_the_protocol(at: Served) -> str:
    """RFC 9113 §3.4: the preface of HTTP/2."""
    client = await at.connect()
    await client.send(authorization().replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n"))
    await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    return await refused(client)


@fault(
    name="requests a tunnel",
    outcome=None,
    client_sees=f"501 `invalid_request`, then {CLOSES}",
    afterwards="the rest is ignored",
)
async def connects(at: Served) -> str:
    """RFC 9110 §9.3.6."""
    client = await at.connect()
    await client.send(b"CONNECT idp.example:443 HTTP/1.1\r\nHost: idp.example:443\r\n\r\n")
    await client.send(authorization())
    return await refused(client)


@fault(
    name="a request line that is too long",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes are buffered",
)
async def long_request_line(at: Served) -> str:
    client = await at.connect()
    client.writer.write(b"GET /oauth/authorize?state=" + b"s" * (1 << 20))
    return await refused(client)


@fault(
    name="header fields that are too large",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes are buffered",
)
async def large_fields(at: Served) -> str:
    client = await at.connect()
    client.writer.write(FORM_HEAD + b"Cookie: " + b"c" * 70_000 + b"\r\n\r\n")
    return await refused(client)


@fault(
    name="an endless trailer field",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes are buffered",
)
async def endless_trailer(at: Served) -> str:
    client = await at.connect()
    client.writer.write(FORM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 200_000)
    return await refused(client)


@fault(
    name="an endless trailer field after the response",
    outcome=TokenOutcome.METHOD_NOT_ALLOWED,
    client_sees=f"405 `invalid_request`, then {CLOSES}",
    afterwards="the same; no second response is sent, which would be matched to the next request",
)
async def endless_unwanted_trailer(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD.replace(b"POST", b"PUT") + b"Transfer-Encoding: chunked\r\n\r\n")
    answer = await client.answer()
    client.writer.write(b"0\r\nX: " + b"y" * 1_000_000)
    return f"{answer}, then {await client.sees_the_end()}"


@fault(
    name="too many header fields",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.fields} are allowed",
)
async def many_fields(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + b"".join(b"A%d: b\r\n" % number for number in range(100)) + b"\r\n")
    return await refused(client)


@fault(
    name="endless short header fields",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.fields} are allowed; the limit applies before the head is complete",
)
async def endless_fields(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + b"a:\r\n" * 1000)
    return await refused(client)


@fault(
    name="endless trailer fields",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards="they have the limits of header fields and are ignored",
)
async def endless_trailers(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED + b"0\r\n" + b"a:\r\n" * 1000)
    return await refused(client)


@fault(
    name="endless trailer fields after the response",
    outcome=TokenOutcome.METHOD_NOT_ALLOWED,
    client_sees=f"405 `invalid_request`, then {CLOSES}",
    afterwards="the same; no second response is sent, which would be matched to the next request",
)
async def endless_unwanted_trailers(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD.replace(b"POST", b"PUT") + CHUNKED)
    answer = await client.answer()
    await client.send(b"0\r\n" + b"a:\r\n" * 1000)
    return f"{answer}, then {await client.sees_the_end()}"


@fault(
    name="a trailer field that is too large",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes are buffered",
)
async def large_trailer(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED + b"0\r\na: ")
    client.writer.write(b"b" * 70_000)
    return await refused(client)


@fault(
    name="an endless chunked body",
    outcome=TokenOutcome.BODY_TOO_LARGE,
    client_sees=f"413 `invalid_request`, then {CLOSES}",
    afterwards="64 KiB are read; up to 1 MiB more is dropped while the client reads the response",
)
async def endless_body(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED)
    await client.send(*[b"10000\r\n" + b"b" * 0x10000 + b"\r\n"] * 8)  # it does not look for an answer before
    answer = await client.answer()
    client.writer.write_eof()
    return f"{answer}, then {await client.sees_the_end()}"


@fault(
    name="a request that is not HTTP",
    outcome=None,
    client_sees=f"400 `invalid_request`, then {CLOSES}",
    afterwards="nothing of it is echoed or logged",
)
async def not_http(at: Served) -> str:
    client = await at.connect()
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    return await refused(client)


@fault(
    name="a body with invalid chunks",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"400 `invalid_request`, then {CLOSES}",
    afterwards="the identity provider receives nothing",
)
async def broken_chunks(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED)
    await eventually(lambda: at_work(at))
    await client.send(b"no length\r\n")
    return await refused(client)


@fault(
    name="a request, then not HTTP",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=f"200, then {CLOSES}",
    afterwards="the request is answered first",
)
async def request_then_nonsense(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request() + b"this is not HTTP\r\n\r\n")
    await at.idp.asked.wait()
    at.idp.may_answer.set()
    return await refused(client)


# Too many clients


@fault(
    name="more idle connections than allowed",
    limits=replace(ROOMY, connections=8),
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees="302",
    afterwards="each new connection closes the one idle for longest",
)
async def more_than_room(at: Served) -> str:
    idle = [await at.connect() for _ in range(8)]
    last = await at.connect()
    await last.send(authorization())
    answer = await last.answer()
    await idle[0].sees_the_end()
    await idle[1].send(authorization(client_id=None)[:-2])  # it is still heard
    assert len(at.connections.connections) == 8
    return str(answer)


@fault(
    name="more concurrent requests than allowed",
    limits=replace(ROOMY, connections=4),
    times=4,
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=f"503 `temporarily_unavailable`, `Retry-After: 5`, then {CLOSES}",
    afterwards="active requests are answered; so is `/healthz`",
)
async def more_requests_than_room(at: Served) -> str:
    busy = [await at.connect() for _ in range(4)]
    for client in busy:
        await client.send(token_request())
    await eventually(partial(all_are_asked, at, 4))
    health = await at.connect()
    await health.send(b"GET /healthz HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n")
    assert (await health.answer()).status == 200
    await health.sees_the_end()
    late = await at.connect()
    await late.send(token_request())
    seen = await refused(late)
    at.idp.may_answer.set()
    assert [(await client.answer()).status for client in busy] == [200] * 4
    return seen


@fault(
    name="a flood of connections while all are busy",
    limits=replace(ROOMY, connections=1),
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=RESET,
    afterwards="each new connection replaces the previous new one; busy ones stay",
)
async def flood(at: Served) -> str:
    busy = await at.connect()
    await busy.send(token_request())
    await at.idp.asked.wait()
    waiting = [await at.connect() for _ in range(100)]
    for client in waiting[:-1]:
        await client.sees_the_end()
    assert len(at.connections.connections) == 2
    at.idp.may_answer.set()
    assert (await busy.answer()).status == 200
    return RESET


def authorization(**changes: str | None) -> bytes:
    """A whole authorization request."""
    return f"GET /oauth/authorize?{urlencode(authorization_request(**changes))} HTTP/1.1\r\nHost: door\r\n\r\n".encode()


async def at_work(at: Served) -> bool:
    return bool(at.connections.tasks)


async def are_connected(state: Connections, connections: int) -> bool:
    return len(state.connections) == connections


async def all_are_asked(at: Served, requests: int) -> bool:
    return at.idp.requests == requests


@pytest.mark.parametrize("case", CASES, ids=[case.fault.name for case in CASES])
async def test_a_client_that_misbehaves_costs_its_own_socket_only(case: Case) -> None:
    """Faults, "Clients": gone before the answer, half-closed, pipelined, slowloris."""
    async with served_door(case.limits) as at:
        before = await at.door.samples()
        assert await case.scenario(at) == case.fault.client_sees

        async def has_grown() -> Samples | None:
            after = await at.door.samples()
            return after if increases(before, after) == counted(case.fault, case.times) else None

        await eventually(has_grown)
        await at.is_well()


async def test_what_a_client_says_in_a_trailer_is_not_taken_for_what_a_proxy_says_of_it() -> None:
    """THREATS 15; RFC 9110 §6.5.1: proxies put X-Forwarded-For into the head, and some pass a client's trailer on."""
    settings = {"trusted_proxies": ["127.0.0.1"], "rate_limit_register": "2/minute"}
    async with served_door(settings=settings, now=Clock()) as at:
        statuses = []
        for number in range(3):
            client = await at.connect()
            await client.send(
                b"POST /oauth/register HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\n"
                b"X-Forwarded-For: 52.1.2.3\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\n{}\r\n0\r\nX-Forwarded-For: 52.1.2.%d\r\n\r\n" % (10 + number)
            )
            statuses.append((await client.answer()).status)
        assert statuses == [400, 400, 429]


async def test_a_trailer_is_no_header_field_of_its_request() -> None:
    """RFC 9110 §6.5.1: or else it could say after the checks who asks, or for whom."""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        await Response(request.headers.get("x-forwarded-for", "nobody"))(scope, receive, send)

    async with served(echo) as listener:
        client = await connect(listener)
        await client.send(b"POST / HTTP/1.1\r\nHost: door\r\n" + CHUNKED)
        await client.send(b"1\r\nx\r\n0\r\nX-Forwarded-For: somebody\r\n\r\n")
        assert (await client.answer()).body == b"nobody"
        client.leave()


async def test_an_empty_line_before_a_request_is_ignored() -> None:
    """RFC 9112 §2.2."""
    async with served_door() as at:
        client = await at.connect()
        await client.send(b"\r\n", authorization())
        assert (await client.answer()).status == 302
