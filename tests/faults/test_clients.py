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
NOBODY = "nothing: it is gone"
CLOSES = "the connection closes"
RESET = "the connection is reset"


async def refused(client: RawClient) -> str:
    """Why, after which the connection closes."""
    return f"{await client.answer()}, then {await client.sees_the_end()}"


# Clients that go


@fault(
    name="gone before the answer",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=NOBODY,
    afterwards="the exchange went on, because the code is spent either way; it is counted once, by how it ended",
)
async def gone_before_the_answer(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request())
    await at.idp.asked.wait()
    client.leave()
    at.idp.may_answer.set()
    return NOBODY


@fault(
    name="gone in the middle of its body",
    outcome=TokenOutcome.CANCELLED,
    client_sees=NOBODY,
    afterwards="the identity provider has heard nothing",
)
async def gone_in_the_body(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request()[:-10])
    await eventually(lambda: at_work(at))
    client.leave()
    return NOBODY


@fault(
    name="half-closed after its request",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    afterwards="the connection closes after the answer",
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
    name="half-closed in the middle of its body",
    outcome=TokenOutcome.CANCELLED,
    client_sees=CLOSES,
    afterwards="the identity provider has heard nothing",
)
async def half_closed_in_the_body(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request()[:-10])
    await eventually(lambda: at_work(at))
    client.writer.write_eof()
    return await client.sees_the_end()


# Clients that are slow


@fault(
    name="slowloris: a head of one byte after another",
    limits=replace(ROOMY, head=SOON),
    outcome=None,
    client_sees=f"408 `invalid_request`, then {CLOSES}",
    afterwards=f"it had {ROOMY.head:.0f} seconds, and held one socket",
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
    afterwards=f"it had {ROOMY.head:.0f} seconds, and held one socket",
)
async def silent(at: Served) -> str:
    return await (await at.connect()).sees_the_end()


@fault(
    name="silent after an answer",
    limits=replace(ROOMY, idle=SOON),
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=f"302, then {CLOSES}",
    afterwards=f"it had {ROOMY.idle:.0f} seconds for another request: load balancers must close first",
)
async def silent_after_an_answer(at: Served) -> str:
    client = await at.connect()
    await client.send(authorization())
    return await refused(client)


@fault(
    name="slowloris: a body of one byte after another",
    limits=replace(ROOMY, body=SOON),
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"408 `invalid_request`, then {CLOSES}",
    afterwards=f"it had {ROOMY.body:.0f} seconds and one more for each {ROOMY.body_rate} bytes",
)
async def slow_body(at: Served) -> str:
    client = await at.connect()
    await client.send(*(bytes([byte]) for byte in token_request()[:-1]))
    return await refused(client)


@fault(
    name="slowloris: the head of a second request, while the first is answered",
    limits=replace(ROOMY, head=SOON, early_response=SOON),
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=f"200, then 408 `invalid_request`, then {CLOSES}",
    afterwards="the first has its answer, and the second its time from then on",
)
async def slow_second_head(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request())
    await at.idp.asked.wait()
    await client.send(FORM_HEAD)
    at.idp.may_answer.set()
    return f"{await client.answer()}, then {await refused(client)}"


@fault(
    name="slowloris: a body whose request has its answer already",
    limits=replace(ROOMY, head=SOON, body=10 * SOON),
    outcome=TokenOutcome.METHOD_NOT_ALLOWED,
    client_sees=f"405 `invalid_request`, then {CLOSES}",
    afterwards="the rest has as long as a head",
)
async def slow_unwanted_body(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD.replace(b"POST", b"PUT") + b"Content-Length: 1000\r\n\r\n")
    return await refused(client)


@fault(
    name="a length that is never delivered",
    limits=replace(ROOMY, body=SOON),
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"408 `invalid_request`, then {CLOSES}",
    afterwards="the identity provider has heard nothing",
)
async def undelivered(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + b"Content-Length: 1000\r\n\r\n")
    return await refused(client)


@fault(
    name="never reads its answers",
    limits=replace(ROOMY, idle=SOON, unread=SOON),
    times=10,
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=RESET,
    afterwards=f"it had {ROOMY.unread:.0f} seconds to take what was sent, and at most 64 KiB were kept for it",
)
async def never_reads(at: Served) -> str:
    client = await at.connect(reads=False)
    await client.send(*[authorization(state="s" * 4000)] * 10)
    await eventually(partial(are_connected, at.connections, 0))
    return RESET


@fault(
    name="a scraper that never reads",
    limits=replace(ROOMY, idle=SOON, unread=SOON),
    outcome=None,
    client_sees=RESET,
    afterwards="the same, at the metrics listener, which has 64 connections of its own",
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
    name="pipelined",
    times=5,
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees="302",
    afterwards="each has its answer, in the order of the requests",
)
async def pipelined(at: Served) -> str:
    client = await at.connect()
    await client.send(b"".join(authorization(state=str(number)) for number in range(5)))
    answers = [await client.answer() for _ in range(5)]
    for number, answer in enumerate(answers):
        assert f"state={number}&" in answer.headers["location"] + "&"
    return ", ".join({str(answer) for answer in answers})


@fault(
    name="pipelined without an end",
    times=33,
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=f"302, then {CLOSES}",
    afterwards=f"{ROOMY.pipelined} may wait for the one before them; what comes with them is dropped",
)
async def pipelined_without_end(at: Served) -> str:
    client = await at.connect()
    client.writer.write(authorization() * 100)
    for _ in range(32):
        await client.answer()
    return await refused(client)


@fault(
    name="asks for another protocol, and sends a request hidden in a body",
    outcome=None,
    client_sees=f"501 `invalid_request`, then {CLOSES}",
    afterwards="the body was not read as the next request, which behind a proxy would be somebody else's",
)
async def smuggled(at: Served) -> str:
    """RFC 9112 §11.2."""
    client = await at.connect()
    await client.send(FORM_HEAD + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(authorization()))
    await client.send(authorization())
    return await refused(client)


@fault(
    name="asks for another protocol, and speaks it at once",
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees=f"302, then {CLOSES}",
    afterwards="the request is answered by HTTP, and nothing after it is heard",
)
async def changes_the_protocol(at: Served) -> str:
    """RFC 9110 §7.8."""
    client = await at.connect()
    await client.send(authorization().replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n"))
    await client.send(authorization())
    return await refused(client)


@fault(
    name="a request line far too long",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes of it were kept",
)
async def long_request_line(at: Served) -> str:
    client = await at.connect()
    client.writer.write(b"GET /oauth/authorize?state=" + b"s" * (1 << 20))
    return await refused(client)


@fault(
    name="header fields far too large",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes of them were kept",
)
async def large_fields(at: Served) -> str:
    client = await at.connect()
    client.writer.write(FORM_HEAD + b"Cookie: " + b"c" * 70_000 + b"\r\n\r\n")
    return await refused(client)


@fault(
    name="a trailer without an end",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes of it were kept",
)
async def endless_trailer(at: Served) -> str:
    client = await at.connect()
    client.writer.write(FORM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 200_000)
    return await refused(client)


@fault(
    name="a trailer without an end, of a request that has its answer already",
    outcome=TokenOutcome.METHOD_NOT_ALLOWED,
    client_sees=f"405 `invalid_request`, then {CLOSES}",
    afterwards="the same, and no second answer, which would be taken for that to the next request",
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
    name="many short header fields without an end",
    outcome=None,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.fields} are allowed, also while their end is still to come",
)
async def endless_fields(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + b"a:\r\n" * 1000)
    return await refused(client)


@fault(
    name="trailers without an end",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards="they have the same limits as header fields, and are read by nobody",
)
async def endless_trailers(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED + b"0\r\n" + b"a:\r\n" * 1000)
    return await refused(client)


@fault(
    name="trailers without an end, of a request that has its answer already",
    outcome=TokenOutcome.METHOD_NOT_ALLOWED,
    client_sees=f"405 `invalid_request`, then {CLOSES}",
    afterwards="the same, and no second answer, which would be taken for that to the next request",
)
async def endless_unwanted_trailers(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD.replace(b"POST", b"PUT") + CHUNKED)
    answer = await client.answer()
    await client.send(b"0\r\n" + b"a:\r\n" * 1000)
    return f"{answer}, then {await client.sees_the_end()}"


@fault(
    name="one trailer far too large",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"431 `invalid_request`, then {CLOSES}",
    afterwards=f"{ROOMY.head_size} bytes of it were kept",
)
async def large_trailer(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED + b"0\r\na: ")
    client.writer.write(b"b" * 70_000)
    return await refused(client)


@fault(
    name="a body in chunks without an end",
    outcome=TokenOutcome.BODY_TOO_LARGE,
    client_sees=f"413 `invalid_request`, then {CLOSES}",
    afterwards="64 KiB were read; up to 1 MiB more is dropped while the client reads its answer",
)
async def endless_body(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED)
    await client.send(*[b"10000\r\n" + b"b" * 0x10000 + b"\r\n"] * 8)  # it does not look for an answer before
    answer = await client.answer()
    client.writer.write_eof()
    return f"{answer}, then {await client.sees_the_end()}"


@fault(
    name="what is not HTTP",
    outcome=None,
    client_sees=f"400 `invalid_request`, then {CLOSES}",
    afterwards="nothing of it is repeated or logged",
)
async def not_http(at: Served) -> str:
    client = await at.connect()
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    return await refused(client)


@fault(
    name="a body in chunks that are none",
    outcome=TokenOutcome.CANCELLED,
    client_sees=f"400 `invalid_request`, then {CLOSES}",
    afterwards="the identity provider has heard nothing",
)
async def broken_chunks(at: Served) -> str:
    client = await at.connect()
    await client.send(FORM_HEAD + CHUNKED)
    await eventually(lambda: at_work(at))
    await client.send(b"no length\r\n")
    return await refused(client)


@fault(
    name="a request, and then what is not HTTP",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=f"200, then {CLOSES}",
    afterwards="the request has its answer, which no other comes before",
)
async def request_then_nonsense(at: Served) -> str:
    client = await at.connect()
    await client.send(token_request() + b"this is not HTTP\r\n\r\n")
    await at.idp.asked.wait()
    at.idp.may_answer.set()
    return await refused(client)


# Too many clients


@fault(
    name="more connections than there is room for, and idle",
    limits=replace(ROOMY, connections=8),
    outcome=AuthorizationOutcome.REDIRECTED_TO_IDP,
    client_sees="302",
    afterwards="the one that has been waited for longest is closed for each that comes",
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
    name="more requests at once than there is room for",
    limits=replace(ROOMY, connections=4),
    times=4,
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees=f"503 `temporarily_unavailable`, `Retry-After: 5`, then {CLOSES}",
    afterwards="those that were there have their answers, and `/healthz` has one meanwhile",
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
    afterwards="each that comes takes the place of the one before it; those that are busy keep theirs",
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
    """THREATS, Client: gone before the answer, half-closed, pipelined, slowloris."""
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
