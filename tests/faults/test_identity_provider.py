"""Everything that the identity provider can do wrong on a socket, and what comes of it."""

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.identity_provider.circuit_breaker import FAILURES, MOST_IN_FLIGHT, PAUSE
from seed_oauth.identity_provider.open import open_transport
from seed_oauth.outcomes import Outcome, TokenOutcome
from seed_oauth.telemetry.contract import IdpOutcome
from tests.broker import BrokerDoor, Clock
from tests.certificates import serving, trusting
from tests.cli.test_cli import PATIENCE
from tests.faults.fault import Fault
from tests.faults.faulty_server import (
    GOOD,
    PROSE,
    TOKENS,
    Connection,
    FaultyServer,
    Manner,
    answering,
    behaving,
    blackholed,
    certified,
    faulty_server,
    refusing,
    response,
)
from tests.harness import (
    CODE_VERIFIER,
    SETTINGS,
    FrontDoor,
    RelayDoor,
    code_request,
    increases,
    json_of,
    query_of,
    refresh_request,
)
from tests.test_secrets import logging_as

pytestmark = pytest.mark.anyio

TITLE = "The identity provider"

SOON = 1.0
"""Seconds after which what never comes is given up."""

UNSENT = "Nothing was sent. The same request succeeds after recovery."
SENT = "It was sent once. A new code, or the same refresh token, succeeds after recovery."

Row = TokenOutcome
Bring = Callable[[FaultyServer], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, and how it is brought about."""

    fault: Fault
    bring: Bring
    sent: bool
    """Whether something of the request gets to the identity provider."""
    host: str = "127.0.0.1"
    tls: bool = False
    kept: bool = False
    """Whether there is a connection of an exchange before."""


def case(
    name: str,
    bring: Bring,
    row: Row,
    idp: IdpOutcome,
    *,
    sent: bool,
    retry_after: str | None = "5",
    **how: Any,
) -> Case:
    fault = Fault(name=name, outcome=row, idp=idp, retry_after=retry_after, afterwards=SENT if sent else UNSENT)
    return Case(fault=fault, bring=bring, sent=sent, **how)


def unreachable(name: str, bring: Bring, *, sent: bool = False, **how: Any) -> Case:
    return case(name, bring, Row.IDP_UNREACHABLE, IdpOutcome.CONNECT_ERROR, sent=sent, **how)


def late(name: str, bring: Bring, *, sent: bool = True) -> Case:
    return case(name, bring, Row.IDP_TIMEOUT, IdpOutcome.TIMEOUT, sent=sent)


def nonsense(name: str, manner: Manner, idp: IdpOutcome = IdpOutcome.INVALID_RESPONSE) -> Case:
    return case(name, doing(manner), Row.IDP_INVALID_RESPONSE, idp, sent=True)


def answered(name: str, row: Row, idp: IdpOutcome, answer: bytes, retry_after: str | None = "5") -> Case:
    return case(name, doing(answering(answer)), row, idp, sent=True, retry_after=retry_after)


def granted(name: str, manner: Manner, *, kept: bool = False) -> Case:
    fault = Fault(name=name, outcome=Row.EXCHANGED, idp=IdpOutcome.OK, afterwards="The fault has no effect.")
    return Case(fault=fault, bring=doing(manner), sent=True, kept=kept)


def doing(manner: Manner) -> Bring:
    return partial(behaving, manner=manner)


def showing(*hosts: str, **certificate: Any) -> Bring:
    return lambda server: certified(server, serving(*hosts, **certificate))


@asynccontextmanager
async def unresolved(_: FaultyServer) -> AsyncIterator[None]:
    """The real resolver knows no such name; the tests' own does, once this is over."""
    with pytest.MonkeyPatch.context() as real:
        real.setattr(socket, "getaddrinfo", RESOLVE)
        yield


RESOLVE = socket.getaddrinfo


def resolve(host: str, *arguments: Any, **options: Any) -> Any:
    """As the system does, but that one name is this machine's."""
    return RESOLVE("127.0.0.1" if host == "idp.invalid" else host, *arguments, **options)


async def resets_at_once(connection: Connection) -> None:
    connection.reset()


async def resets_in_the_answer(connection: Connection) -> None:
    await connection.request()
    await connection.send(GOOD[:-9])
    connection.reset()


async def hangs(connection: Connection) -> None:
    await connection.request()
    await connection.hang()


async def hangs_in_the_body(connection: Connection) -> None:
    await connection.request()
    await connection.send(GOOD[:-9])
    await connection.hang()


async def drips(connection: Connection) -> None:
    await connection.request()
    for byte in GOOD[:-9]:
        await connection.send(bytes([byte]))
    await connection.hang()


async def never_ends(connection: Connection) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await connection.send(b"2000\r\n" + b" " * 0x2000 + b"\r\n")


async def closes_when_idle(connection: Connection) -> None:
    await connection.request()
    await connection.send(GOOD)


async def closes_at_the_next_request(connection: Connection) -> None:
    await connection.request()
    await connection.send(GOOD)
    await connection.first_byte()


async def resets_at_the_next_request(connection: Connection) -> None:
    await closes_at_the_next_request(connection)
    connection.reset()


def with_error(error: str, status: str = "200 OK", *headers: str) -> bytes:
    return response(json.dumps({"error": error, "error_description": PROSE}).encode(), status, *headers)


HTML = f"<h1>{PROSE}</h1>".encode()
TOMORROW = "Fri, 31 Dec 9999 23:59:59 GMT"
HTTP_1_0 = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(TOKENS).encode()

CASES = [
    unreachable("refused", refusing),
    late("blackholed", blackholed, sent=False),
    unreachable("DNS fails", unresolved, host="idp.invalid", tls=True),
    unreachable("TLS certificate for a different name", showing("idp.example"), tls=True),
    unreachable("TLS certificate expired", showing("127.0.0.1", days=-1), tls=True),
    unreachable("TLS certificate from an unknown authority", showing("127.0.0.1", by="somebody else"), tls=True),
    unreachable("reset before the request is read", doing(resets_at_once)),
    unreachable("closed before the response", doing(answering()), sent=True),
    unreachable("reset in the middle of the response", doing(resets_in_the_answer), sent=True),
    unreachable("response shorter than its Content-Length", doing(answering(GOOD[:-9])), sent=True),
    late("hangs before the headers", doing(hangs)),
    late("hangs after the headers", doing(hangs_in_the_body)),
    late("sends the response byte by byte", doing(drips)),
    nonsense("an endless chunked response", never_ends),
    nonsense("a response of 10 MB", answering(response(b" " * 10_000_000))),
    nonsense("not HTTP", answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),
    nonsense("HTML instead of JSON", answering(response(HTML))),
    nonsense("invalid JSON", answering(response(b'{"access_token": '))),
    nonsense("JSON array", answering(response(json.dumps([TOKENS]).encode()))),
    answered("redirect", Row.IDP_UNEXPECTED_STATUS, IdpOutcome.INVALID_RESPONSE,
             response(HTML, "307 Temporary Redirect", "Location: /token")),
    answered("200 with a standard `error`", Row.IDP_INVALID_GRANT, IdpOutcome.HTTP_4XX,
             with_error("invalid_grant"), None),
    answered("200 with a non-standard `error`", Row.IDP_UNKNOWN_ERROR, IdpOutcome.HTTP_4XX, with_error(PROSE)),
    answered("500", Row.IDP_SERVER_ERROR, IdpOutcome.HTTP_5XX, with_error("server_error", "500 Oops")),
    answered("502 in HTML", Row.IDP_SERVER_ERROR, IdpOutcome.HTTP_5XX, response(HTML, "502 Bad Gateway")),
    answered("503 with Retry-After", Row.IDP_SERVER_ERROR, IdpOutcome.HTTP_5XX,
             response(HTML, "503 Maintenance", "Retry-After: 120"), "120"),
    answered("429 with Retry-After", Row.IDP_RATE_LIMITED, IdpOutcome.HTTP_4XX,
             with_error("slow_down", "429 Slow Down", "Retry-After: 7"), "7"),
    answered("429 with a far date in Retry-After", Row.IDP_RATE_LIMITED, IdpOutcome.HTTP_4XX,
             with_error("slow_down", "429 Slow Down", f"Retry-After: {TOMORROW}"), "3600"),
    answered("429 with an invalid Retry-After", Row.IDP_RATE_LIMITED, IdpOutcome.HTTP_4XX,
             with_error("slow_down", "429 Slow Down", f"Retry-After: {PROSE}")),
    granted("HTTP/1.0", answering(HTTP_1_0)),
    granted("kept connection closed while idle", closes_when_idle, kept=True),
    unreachable("kept connection closed as the request arrives", doing(closes_at_the_next_request), sent=True,
                kept=True),
    unreachable("kept connection reset as the request arrives", doing(resets_at_the_next_request), sent=True,
                kept=True),
]  # fmt: skip


@asynccontextmanager
async def after_failures(idp: FaultyServer, door: FrontDoor, form: dict[str, str]) -> AsyncIterator[None]:
    """So many requests in a row get no answer that no more are sent; in the end it is time to see how it is now."""
    async with refusing(idp):
        for _ in range(FAILURES):
            assert (await door.token(form)).status_code == 503
        yield
    assert isinstance(door.clock, Clock)
    door.clock.seconds += PAUSE


@asynccontextmanager
async def among_many(idp: FaultyServer, door: FrontDoor, form: dict[str, str]) -> AsyncIterator[None]:
    """As many requests as may be are waiting for an answer; in the end they give up."""
    # A refresh token is exchanged once at a time, so each request has its own.
    forms = [form] if form["grant_type"] == "authorization_code" else await Replica().refreshes(MOST_IN_FLIGHT)
    async with behaving(idp, hangs), anyio.create_task_group() as group:
        for number in range(MOST_IN_FLIGHT):
            group.start_soon(door.token, forms[number % len(forms)])
        with anyio.fail_after(PATIENCE):
            while len(idp.requests) < MOST_IN_FLIGHT:
                await anyio.sleep(0.01)
        yield
        group.cancel_scope.cancel()


@dataclass(frozen=True)
class Spared:
    """A request for which the identity provider is not asked, and what comes before it."""

    fault: Fault
    before: Callable[[FaultyServer, FrontDoor, dict[str, str]], AbstractAsyncContextManager[None]]


SPARED = [
    Spared(
        Fault(
            name=f"no answer to {FAILURES} requests in a row",
            outcome=Row.CIRCUIT_OPEN,
            retry_after=f"{PAUSE:.0f}",
            afterwards=f"{UNSENT} Every {PAUSE:.0f} seconds one request is let through, and an answer ends it.",
        ),
        after_failures,
    ),
    Spared(
        Fault(
            name=f"no answer yet to {MOST_IN_FLIGHT} requests at once",
            outcome=Row.TOO_MANY_IN_FLIGHT,
            retry_after="5",
            afterwards=UNSENT,
        ),
        among_many,
    ),
]
FAULTS = [*(case.fault for case in CASES), *(spared.fault for spared in SPARED)]


class Replica:
    """Another door with the same keys. It gives out refresh tokens that every door can exchange, and knows codes."""

    def __init__(self) -> None:
        self.made = 0

    async def form(self, grant: str) -> dict[str, str]:
        """A good token request; no two have the same code within."""
        if grant == "authorization_code":
            self.made += 1
            return code_request(code=f"code-{self.made}-of-the-idp")
        (form,) = await self.refreshes(1)
        return form

    async def refreshes(self, number: int) -> list[dict[str, str]]:
        """As many requests to refresh, each with a token of its own."""
        forms = []
        async with BrokerDoor(idp=lambda _: httpx.Response(200, json=TOKENS)) as door:
            for _ in range(number):
                self.made += 1
                state = query_of(await door.person.reaches_idp())["state"]
                returned = await door.person.returns(state=state, code=f"code-{self.made}-of-the-idp")
                code = code_request(code=query_of(returned.headers["location"])["code"])
                forms.append(refresh_request(refresh_token=json_of(await door.token(code))["refresh_token"]))
        return forms


@asynccontextmanager
async def door_before(
    url: str,
    timeout: float,  # noqa: ASYNC109 - the setting's name
    grant: str,
    **options: Any,
) -> AsyncIterator[FrontDoor]:
    """A door with real connections to the identity provider, in a flow whose token endpoint exchanges such a grant.

    In the broker flow codes are exchanged at the callback, by the same code; `test_callback.py` has what comes of it.
    """
    settings = {
        "idp_token_url": f"{url}/token",
        "idp_timeout": timeout,
        "idp_connect_timeout": timeout,
        "rate_limit_token": "",  # the same code is sent as often as it takes
    }
    transport = open_transport(Settings(**{**SETTINGS, **settings}), trusting())
    try:
        flow = RelayDoor if grant == "authorization_code" else BrokerDoor
        async with flow(idp=transport.handle_async_request, settings=settings, **options) as door:
            yield door
    finally:
        await transport.aclose()


def row_of(fault: Fault, grant: str) -> Outcome:
    refreshed = fault.outcome is Row.EXCHANGED and grant == "refresh_token"
    assert fault.outcome is not None
    return Row.REFRESHED if refreshed else fault.outcome


def counted(fault: Fault, grant: str) -> dict[str, float]:
    """One exchange, one request to the identity provider, each with its duration, and one error if it is one."""
    row, idp = row_of(fault, grant), fault.idp
    result = "failure" if row.cause else "success"
    once = [
        f'oauth_token_exchanges_total{{grant_type="{grant}",result="{result}"}}',
        f'oauth_token_exchange_duration_seconds_count{{grant_type="{grant}"}}',
        f'oauth_idp_requests_total{{operation="token",outcome="{idp}"}}',
        f'oauth_idp_request_duration_seconds_count{{operation="token",outcome="{idp}"}}',
    ]
    if row.cause:
        once.append(f'oauth_errors_total{{cause="{row.cause}",endpoint="token",reason="{row.reason}"}}')
    return dict.fromkeys(once, 1)


def check_log(printed: str, response: httpx.Response, row: Outcome, secrets: set[str]) -> None:
    lines = [json.loads(line) for line in printed.splitlines()]
    (line,) = [line for line in lines if line.get("correlation_id") == response.headers["x-correlation-id"]]
    assert (line["outcome"], line.get("cause")) == (row.reason, row.cause)
    assert not [secret for secret in secrets if secret in printed]


@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.name)
async def test_what_the_identity_provider_does_wrong_is_told_counted_and_over_when_it_is_over(
    case: Case, grant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults, "The identity provider": what the client sees, what is counted and logged; nothing is spent twice."""
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    fault, replica = case.fault, Replica()
    row = row_of(fault, grant)
    timeout = SOON if fault.idp is IdpOutcome.TIMEOUT else PATIENCE
    form, before_it = await replica.form(grant), await replica.form(grant)
    async with faulty_server(serving("127.0.0.1", case.host) if case.tls else None) as idp:
        url = idp.url.replace("127.0.0.1", case.host)
        with logging_as("json"):
            async with door_before(url, timeout, grant) as door:
                async with case.bring(idp):
                    if case.kept:
                        assert (await door.token(before_it)).status_code == 200
                    begun, read = idp.begun, len(idp.requests)
                    before = await door.samples()
                    capsys.readouterr()
                    response = await door.token(form)
                    grown = increases(before, await door.samples())
                    printed = capsys.readouterr().out

                # What the client sees.
                assert response.status_code == row.status
                assert json_of(response).get("error") == row.error
                assert response.headers.get("retry-after") == fault.retry_after
                # What is counted and logged: nothing of what was sent, and nothing of what the other side says.
                assert grown == counted(fault, grant)
                secrets = {*form.values(), CODE_VERIFIER, "secret of the proxy", "-of-the-idp"}
                check_log(printed, response, row, secrets - {"public", grant, form.get("redirect_uri", "")})
                assert PROSE not in response.text
                # What the identity provider saw.
                assert idp.begun - begun == case.sent
                assert len(idp.requests) - read <= case.sent

                # It recovers by itself, and whoever has a refresh token still has it.
                again = form if grant == "refresh_token" or not case.sent else await replica.form(grant)
                assert (await door.token(again)).status_code == 200
                # No code was ever sent twice.
                codes = [body for body in idp.requests if b"grant_type=authorization_code" in body]
                assert len(codes) == len(set(codes))


@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token"])
@pytest.mark.parametrize("spared", SPARED, ids=lambda spared: spared.fault.name)
async def test_an_identity_provider_that_does_not_answer_is_not_asked_and_nothing_is_lost_by_it(
    spared: Spared, grant: str
) -> None:
    """Faults, "The identity provider": one that hangs takes neither the door with it, nor anybody's code."""
    row, replica = spared.fault.outcome, Replica()
    others, form = await replica.form(grant), await replica.form(grant)
    assert row is not None
    async with faulty_server() as idp, door_before(idp.url, PATIENCE, grant, clock=Clock()) as door:
        async with spared.before(idp, door, others):
            begun, before = idp.begun, await door.samples()
            response = await door.token(form)
            assert (response.status_code, json_of(response)["error"]) == (row.status, row.error)
            assert response.headers["retry-after"] == spared.fault.retry_after
            error = f'oauth_errors_total{{cause="{row.cause}",endpoint="token",reason="{row.reason}"}}'
            assert increases(before, await door.samples()) == {error: 1}
            assert idp.begun == begun
        assert (await door.token(form)).status_code == 200
