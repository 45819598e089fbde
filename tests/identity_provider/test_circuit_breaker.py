"""The circuit breaker and the bulkhead: when the identity provider is asked, and when it is spared."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from seed_oauth.identity_provider.circuit_breaker import FAILURES, MOST_IN_FLIGHT, PAUSE, EndpointCircuit
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import CallbackOutcome, Outcome, ResourceOutcome, TokenOutcome
from tests.broker import BrokerDoor, Clock
from tests.harness import TOKENS, RelayDoor, code_request, increases, json_of, query_of, refresh_request
from tests.resource_server.issuing import Idp, down
from tests.resource_server.test_protect import INTROSPECTING, Protected

pytestmark = pytest.mark.anyio

Failure = IdentityProviderFailure


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> EndpointCircuit:
    return EndpointCircuit("token", clock)


async def answer() -> str:
    return "answer"


async def fail(failure: Failure = Failure.TIMEOUT) -> str:
    raise IdentityProviderError(failure)


async def failure_of(circuit: EndpointCircuit, failure: Failure = Failure.TIMEOUT) -> IdentityProviderError:
    """How a request ends that would end so if it was sent."""
    with pytest.raises(IdentityProviderError) as failed:
        await circuit.send(fail, failure)
    return failed.value


async def open_up(circuit: EndpointCircuit) -> None:
    """Let so many requests in a row go without an answer that no more are sent."""
    for _ in range(FAILURES):
        assert (await failure_of(circuit)).failure is Failure.TIMEOUT


class Pending:
    """A request that ends when and as it is told."""

    def __init__(self, circuit: EndpointCircuit) -> None:
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(circuit.send(self._wait))

    async def _wait(self) -> str:
        return await self._end

    async def ends(self, failure: Failure | None = None) -> None:
        if failure is None:
            self._end.set_result("answer")
        else:
            self._end.set_exception(IdentityProviderError(failure))
        await asyncio.wait([self.task])
        self.task.exception()


@asynccontextmanager
async def pending(circuit: EndpointCircuit, count: int) -> AsyncIterator[list[Pending]]:
    """So many requests under way."""
    requests = [Pending(circuit) for _ in range(count)]
    await asyncio.sleep(0)
    yield requests
    for request in requests:
        request.task.cancel()
    await asyncio.wait([request.task for request in requests])


@pytest.mark.parametrize("failure", [Failure.UNREACHABLE, Failure.TIMEOUT])
async def test_after_so_many_requests_in_a_row_without_an_answer_no_more_are_sent(
    circuit: EndpointCircuit, failure: Failure
) -> None:
    for _ in range(FAILURES):
        assert (await failure_of(circuit, failure)).failure is failure
    assert (await failure_of(circuit, failure)).failure is Failure.CIRCUIT_OPEN


@pytest.mark.parametrize(
    "failure", [Failure.REFUSED, Failure.RATE_LIMITED, Failure.SERVER_ERROR, Failure.INVALID_RESPONSE]
)
async def test_an_answer_of_any_kind_is_an_answer(circuit: EndpointCircuit, failure: Failure) -> None:
    for _ in range(2 * FAILURES):
        assert (await failure_of(circuit, failure)).failure is failure
    for _ in range(2):
        for _ in range(FAILURES - 1):
            await failure_of(circuit)
        await failure_of(circuit, failure)
    assert await circuit.send(answer) == "answer"


async def test_who_is_refused_hears_when_the_next_one_is_let_through(circuit: EndpointCircuit, clock: Clock) -> None:
    await open_up(circuit)
    assert (await failure_of(circuit)).retry_after == PAUSE
    clock.seconds += PAUSE - 0.5
    assert (await failure_of(circuit)).retry_after == 1


async def test_one_request_is_let_through_in_each_pause_and_its_answer_closes_the_circuit(
    circuit: EndpointCircuit, clock: Clock
) -> None:
    await open_up(circuit)
    for _ in range(3):
        clock.seconds += PAUSE
        assert (await failure_of(circuit)).failure is Failure.TIMEOUT
        assert (await failure_of(circuit)).failure is Failure.CIRCUIT_OPEN
    clock.seconds += PAUSE
    assert await circuit.send(answer) == "answer"
    assert await circuit.send(answer) == "answer"
    assert (await failure_of(circuit)).failure is Failure.TIMEOUT


async def test_while_the_one_is_under_way_the_others_are_refused_and_if_it_is_given_up_another_one_follows(
    circuit: EndpointCircuit, clock: Clock
) -> None:
    await open_up(circuit)
    clock.seconds += PAUSE
    async with pending(circuit, 1):
        assert (await failure_of(circuit)).failure is Failure.CIRCUIT_OPEN
    assert (await failure_of(circuit)).failure is Failure.CIRCUIT_OPEN
    clock.seconds += PAUSE
    assert await circuit.send(answer) == "answer"


async def test_requests_that_were_sent_before_the_last_answer_tell_of_an_outage_that_is_over(
    circuit: EndpointCircuit,
) -> None:
    async with pending(circuit, 2 * FAILURES) as before:
        assert await circuit.send(answer) == "answer"
        for request in before:
            await request.ends(Failure.TIMEOUT)
        assert await circuit.send(answer) == "answer"


async def test_the_answer_to_any_request_closes_the_circuit_also_to_one_that_was_sent_before_it_opened(
    circuit: EndpointCircuit,
) -> None:
    async with pending(circuit, 1) as before:
        await open_up(circuit)
        assert (await failure_of(circuit)).failure is Failure.CIRCUIT_OPEN
        await before[0].ends()
        assert await circuit.send(answer) == "answer"


async def test_requests_that_are_given_up_say_nothing_of_the_identity_provider(circuit: EndpointCircuit) -> None:
    for _ in range(2 * FAILURES):
        async with pending(circuit, 1):
            pass
    assert await circuit.send(answer) == "answer"


async def test_so_many_requests_are_under_way_and_no_more_until_one_of_them_ends(circuit: EndpointCircuit) -> None:
    async with pending(circuit, MOST_IN_FLIGHT) as requests:
        refused = await failure_of(circuit)
        assert (refused.failure, refused.retry_after) == (Failure.TOO_MANY_IN_FLIGHT, None)
        await requests[0].ends(Failure.INVALID_RESPONSE)
        async with pending(circuit, 1):
            assert (await failure_of(circuit)).failure is Failure.TOO_MANY_IN_FLIGHT
        assert await circuit.send(answer) == "answer"


class Outage:
    """An identity provider that cannot be reached until it is over."""

    def __init__(self) -> None:
        self.over = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.over:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=TOKENS)


def counted(row: Outcome, endpoint: str) -> dict[str, float]:
    return {f'oauth_errors_total{{cause="idp",endpoint="{endpoint}",reason="{row.reason}"}}': 1}


@pytest.mark.parametrize("form", [code_request(), refresh_request()], ids=["code", "refresh"])
async def test_what_the_circuit_breaker_refuses_is_an_error_and_no_exchange(
    form: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Faults, "The identity provider": it does not answer, and nobody has to wait to hear that."""
    outage = Outage()
    async with RelayDoor(idp=outage) as door:
        for _ in range(FAILURES):
            await door.token(form)
        assert capsys.readouterr().out.count("identity provider does not respond") == 1
        before = await door.samples()
        response = await door.token(form)

        assert response.status_code == 503
        assert json_of(response)["error"] == "temporarily_unavailable"
        assert 1 <= int(response.headers["retry-after"]) <= PAUSE
        assert increases(before, await door.samples()) == counted(TokenOutcome.CIRCUIT_OPEN, "token")
        assert len(door.idp_requests) == FAILURES


async def test_a_token_that_cannot_be_checked_is_not_asked_about_either() -> None:
    """PROTOCOL M5: trouble that may pass is never a 401, on which clients throw good tokens away."""
    idp = Idp(failure=down)
    async with Protected(idp=idp, settings=INTROSPECTING) as server:
        for number in range(FAILURES):
            await server.get(f"Bearer opaque-{number}")
        before = await RelayDoor(pipeline=server.pipeline).samples()
        response = await server.get("Bearer another")

        assert response.status_code == 503
        assert 1 <= int(response.headers["retry-after"]) <= PAUSE
        grown = increases(before, await RelayDoor(pipeline=server.pipeline).samples())
        refused = {'oauth_resource_requests_total{result="refused"}': 1}
        assert grown == counted(ResourceOutcome.TOKEN_CHECK_UNAVAILABLE, "resource") | refused
        assert len(idp.requests) == FAILURES


async def test_each_endpoint_of_the_identity_provider_has_a_circuit_of_its_own() -> None:
    revocation = {"token": "x", "client_id": "public"}
    outage = Outage()
    async with RelayDoor(idp=outage) as door:
        for _ in range(FAILURES + 1):
            response = await door.http.post("/oauth/revoke", data=revocation)
        assert response.status_code == 503
        assert 1 <= int(response.headers["retry-after"]) <= PAUSE
        assert len(door.idp_requests) == FAILURES
        outage.over = True
        assert (await door.token(refresh_request())).status_code == 200


@pytest.mark.parametrize(("form", "hold"), [(code_request(), 2), (refresh_request(), 1)], ids=["code", "refresh"])
async def test_what_the_bulkhead_refuses_is_an_error_and_no_exchange(
    form: dict[str, str], hold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults, "The identity provider": it hangs, and memory and connections stay bounded."""
    monkeypatch.setattr("seed_oauth.identity_provider.circuit_breaker.MOST_IN_FLIGHT", hold)
    over = asyncio.Event()
    reached = asyncio.Semaphore(0)

    async def hang(_: httpx.Request) -> httpx.Response:
        reached.release()
        await over.wait()
        return httpx.Response(200, json=TOKENS)

    async with RelayDoor(idp=hang) as door:
        waiting = [asyncio.create_task(door.token(form)) for _ in range(hold)]
        for _ in range(hold):
            await reached.acquire()
        before = await door.samples()
        response = await door.token(form)

        assert response.status_code == 503
        assert json_of(response)["error"] == "temporarily_unavailable"
        assert int(response.headers["retry-after"]) > 0
        assert increases(before, await door.samples()) == counted(TokenOutcome.TOO_MANY_IN_FLIGHT, "token")
        over.set()
        assert [(await task).status_code for task in waiting] == [200] * hold
        assert (await door.token(form)).status_code == 200


@pytest.mark.parametrize("row", [CallbackOutcome.CIRCUIT_OPEN, CallbackOutcome.TOO_MANY_IN_FLIGHT])
async def test_a_browser_that_comes_back_meanwhile_is_sent_to_the_client_with_trouble_that_passes(
    row: CallbackOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    if row is CallbackOutcome.TOO_MANY_IN_FLIGHT:
        monkeypatch.setattr("seed_oauth.identity_provider.circuit_breaker.MOST_IN_FLIGHT", 0)
    async with BrokerDoor(idp=Outage()) as door:
        if row is CallbackOutcome.CIRCUIT_OPEN:
            for _ in range(FAILURES):
                state = query_of(await door.person.reaches_idp())["state"]
                await door.person.returns(code="idp code", state=state)
        asked = len(door.idp_requests)
        state = query_of(await door.person.reaches_idp())["state"]
        before = await door.samples()
        response = await door.person.returns(code="idp code", state=state)

        assert query_of(response.headers["location"])["error"] == "temporarily_unavailable"
        result = {'oauth_callbacks_total{result="error"}': 1}
        assert increases(before, await door.samples()) == counted(row, "callback") | result
        assert len(door.idp_requests) == asked
