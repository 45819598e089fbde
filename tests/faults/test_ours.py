"""What befalls the front door itself: signals, its clock, its loop, its file descriptors, and the Collector's end."""

import asyncio
import json
import os
import re
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from seed_oauth import Settings
from seed_oauth.outcomes import TokenOutcome
from seed_oauth.telemetry.contract import IdpOutcome
from seed_oauth.telemetry.push import SHUTDOWN_TIMEOUT
from tests.broker import BrokerDoor, Clock
from tests.cli.test_cli import PATIENCE, Server, free_port, serving
from tests.faults.fault import Fault, counted
from tests.faults.served import RawClient, served_door, token_request
from tests.harness import TOKENS, Samples, code_request, increases, json_of, query_of, refresh_request, samples_of
from tests.http_client.test_transport import listening, response
from tests.integration.real_parts import eventually
from tests.integration.test_workers import until_up, workers_of
from tests.resource_server.issuing import SECRET_KEY, own_token

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TITLE = "The server"
FAULTS: list[Fault] = []

Scenario = Callable[["Environment"], Awaitable[str]]
CASES: list[tuple[Fault, Scenario]] = []

FEW_FILES = 64
IDLE = 1000


def fault(**fields: Any) -> Callable[[Scenario], Scenario]:
    """List a fault, which the decorated scenario brings about; the scenario gives what the client saw."""

    def add(scenario: Scenario) -> Scenario:
        FAULTS.append(Fault(**fields))
        CASES.append((FAULTS[-1], scenario))
        return scenario

    return add


@dataclass
class Idp:
    """An identity provider on a socket, that answers when it may."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            self.asked.set()
            await self.may_answer.wait()
            writer.write(response(json.dumps(TOKENS).encode(), headers=b"Content-Type: application/json\r\n"))


@dataclass
class Environment:
    """A door as a process of its own, and what a scenario needs to do something to it."""

    folder: Path
    stack: AsyncExitStack
    idp: Idp = field(default_factory=Idp)
    server: Server = field(init=False)
    before: Samples = field(init=False)
    after: Samples | None = None

    async def begin(self, environment: Mapping[str, str] | None = None, **options: Any) -> Server:
        """Start it in the relay flow."""
        idp = f"http://127.0.0.1:{await self.stack.enter_async_context(listening(self.idp))}"
        door = {
            "SEED_OAUTH_FLOW": "relay",
            "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{idp}/authorize",
            "SEED_OAUTH_IDP_TOKEN_URL": f"{idp}/token",
            "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
            "SEED_OAUTH_CLIENTS": json.dumps(
                [{"client_id": "public", "redirect_uris": ["https://app.example/callback"]}]
            ),
        }
        serving_door = serving(self.folder, {**door, **(environment or {})}, **options)
        self.server = await self.stack.enter_async_context(serving_door)
        self.before = await self.scrape()
        return self.server

    async def scrape(self) -> Samples:
        return samples_of((await self.server.http.get(self.server.metrics)).text)

    async def connect(self, request: bytes = b"") -> RawClient:
        """One more connection, on which this is sent."""
        client = RawClient(*await asyncio.open_connection("127.0.0.1", httpx.URL(self.server.url).port))
        self.stack.callback(client.leave)
        await client.send(request)
        return client

    async def exchange_under_way(self) -> RawClient:
        client = await self.connect(token_request())
        await self.idp.asked.wait()
        return client

    async def ends(self) -> int | None:
        """The exit code."""
        await self.server.process.communicate()
        return self.server.process.returncode

    async def is_refused(self) -> bool:
        try:
            (await self.connect()).leave()
        except ConnectionRefusedError:
            return True
        return False


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: door\r\n\r\n"


async def stops(at: Environment, workers: int) -> str:
    """SIGTERM while an exchange is under way, another connection is kept alive and somebody pushes to a Collector."""
    pushed: list[Samples] = []

    async def collector(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length
        pushed.append(samples_in(await reader.readexactly(int(length[1]))))
        writer.write(response(b""))

    endpoint = await at.stack.enter_async_context(listening(collector))
    environment = {
        "SEED_OAUTH_WORKERS": str(workers),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{endpoint}",
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    server = await at.begin(environment)
    idle = await at.connect(HEALTH)
    assert (await idle.answer()).status == 200
    under_way = await at.exchange_under_way()
    server.process.send_signal(signal.SIGTERM)
    await eventually(at.is_refused)
    await idle.sees_the_end()
    at.idp.may_answer.set()
    answer = await under_way.answer()
    assert answer.headers["connection"] == "close"
    await under_way.sees_the_end()
    assert await at.ends() == 0
    at.after = pushed[-1]
    return str(answer)


def samples_in(push: bytes) -> Samples:
    """The counters, and the counts of the histograms, of an OTLP push."""
    found: Samples = {}
    for resource_metrics in ExportMetricsServiceRequest.FromString(push).resource_metrics:
        for metric in (metric for scope in resource_metrics.scope_metrics for metric in scope.metrics):
            for point in metric.sum.data_points:
                labels = frozenset((label.key, label.value.string_value) for label in point.attributes)
                found[metric.name, labels] = point.as_int or point.as_double
            for point in metric.histogram.data_points:
                labels = frozenset((label.key, label.value.string_value) for label in point.attributes)
                found[f"{metric.name}_count", labels] = point.count
    return found


@fault(
    name="SIGTERM during an exchange",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees="200",
    afterwards="new connections are refused, requests have 30 seconds, the last counts are pushed; exit code 0",
)
async def sigterm(at: Environment) -> str:
    return await stops(at, workers=1)


@fault(
    name="SIGTERM during an exchange, to the supervisor of two workers",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees="200",
    afterwards="the same: each worker finishes its requests, then the supervisor pushes",
)
async def sigterm_to_the_supervisor(at: Environment) -> str:
    return await stops(at, workers=2)


@fault(
    name="still active 30 seconds after SIGTERM",
    outcome=TokenOutcome.CANCELLED,
    idp=IdpOutcome.CANCELLED,
    client_sees="500",
    afterwards="the request to the identity provider is aborted and its timer stopped",
)
async def out_of_time(at: Environment) -> str:
    async with served_door() as door:  # which has no seconds
        at.before = await door.door.samples()
        client = await door.connect()
        await client.send(token_request())
        await door.idp.asked.wait()
        door.listener.should_exit = True
        answer = await client.answer()
        at.after = await door.door.samples()
    return str(answer)


async def is_told_twice(at: Environment, workers: int) -> str:
    server = await at.begin({"SEED_OAUTH_WORKERS": str(workers)})
    under_way = await at.exchange_under_way()
    server.process.send_signal(signal.SIGTERM)
    await eventually(at.is_refused)
    server.process.send_signal(signal.SIGTERM)
    assert await at.ends() == 128 + signal.SIGTERM
    return await under_way.sees_the_end()


@fault(
    name="a second SIGTERM",
    outcome=None,
    client_sees="the connection closes",
    afterwards="it ends at once with exit code 143; active requests are not counted",
)
async def second_sigterm(at: Environment) -> str:
    return await is_told_twice(at, workers=1)


@fault(
    name="a second SIGTERM, to the supervisor of two workers",
    outcome=None,
    client_sees="the connection closes",
    afterwards="the same; all workers end",
)
async def second_sigterm_to_the_supervisor(at: Environment) -> str:
    return await is_told_twice(at, workers=2)


@fault(
    name="SIGTERM while a client listens to an event stream",
    outcome=None,
    client_sees="the stream ends",
    afterwards="the client reconnects to another replica; active requests finish",
)
async def sigterm_while_listening(at: Environment) -> str:
    may_finish = asyncio.Event()

    async def mcp_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"b\r\ndata: 1\r\n\r\n\r\n")
        if asked.startswith(b"POST") and b"subscriptions/listen" not in asked:
            await may_finish.wait()
            writer.write(b"b\r\ndata: 2\r\n\r\n\r\n0\r\n\r\n")
        await reader.read()

    port, mcp_port = free_port(), await at.stack.enter_async_context(listening(mcp_server))
    issuer = f"http://127.0.0.1:{port}"
    settings = {"issuer": issuer, "secret_keys": SECRET_KEY, "access_tokens": "own", "flow": "broker"}
    settings["mcp_server"] = f"http://127.0.0.1:{mcp_port}/mcp"
    server = await at.begin({f"SEED_OAUTH_{name.upper()}": value for name, value in settings.items()}, port=port)
    token = own_token(Settings.load(**settings), resource=f"{issuer}/mcp")
    headers = {"Authorization": f"Bearer {token}"}
    # MCP 2026-07-28 listens by POST, and says so in a header.
    subscribes = {**headers, "Mcp-Method": "subscriptions/listen"}
    async with (
        server.http.stream("GET", f"{issuer}/mcp", headers=headers) as listened,
        server.http.stream("POST", f"{issuer}/mcp", headers=subscribes) as subscribed,
        server.http.stream("POST", f"{issuer}/mcp", headers=headers) as called,
    ):
        events, news, answer = listened.aiter_raw(), subscribed.aiter_raw(), called.aiter_raw()
        for stream in (events, news, answer):
            assert await anext(stream) == b"data: 1\r\n\r\n"
        server.process.send_signal(signal.SIGTERM)
        for stream in (events, news):
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        may_finish.set()
        assert await anext(answer) == b"data: 2\r\n\r\n"
        with pytest.raises(StopAsyncIteration):
            await anext(answer)
    assert await at.ends() == 0
    return "the stream ends"


@fault(
    name="SIGKILL of a worker during an exchange",
    outcome=None,
    client_sees="the connection closes",
    afterwards="active requests are not counted, though the code may be spent; earlier counts are kept, another "
    "worker answers, and the dead one is replaced",
)
async def sigkill_of_a_worker(at: Environment) -> str:
    server = await at.begin({"SEED_OAUTH_WORKERS": "2"})
    await until_up(server, 2)
    under_way = await at.exchange_under_way()
    for worker in workers_of(server):
        os.kill(worker, signal.SIGKILL)
    seen = await under_way.sees_the_end()
    await until_up(server, 2)
    at.after = await at.scrape()
    at.idp.may_answer.set()
    assert (await (await at.connect(token_request())).answer()).status == 200
    return seen


@fault(
    name="a worker's event loop is blocked",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees="200",
    afterwards="another worker answers, and `seed_oauth_worker_up` of the blocked one is 0 within 3 seconds",
)
async def blocked_loop(at: Environment) -> str:
    server = await at.begin({"SEED_OAUTH_WORKERS": "2"})
    await until_up(server, 2)
    blocked = workers_of(server)[0]
    os.kill(blocked, signal.SIGSTOP)
    await until_up(server, 1)
    at.idp.may_answer.set()
    answer = await (await at.connect(token_request())).answer()
    os.kill(blocked, signal.SIGCONT)
    await until_up(server, 2)
    return str(answer)


@fault(
    name="1,000 idle connections",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees="200",
    afterwards="other requests are answered; each idle connection takes about 10 KB until it times out",
)
async def idle_connections(at: Environment) -> str:
    server = await at.begin()
    at.idp.may_answer.set()
    before = resident_memory(server)
    idle = [await at.connect() for _ in range(IDLE)]
    answer = await (await at.connect(token_request())).answer()
    assert (resident_memory(server) - before) / IDLE < 32 * 1024
    assert not any(client.reader.at_eof() for client in idle)
    return str(answer)


def resident_memory(server: Server) -> int:
    """Bytes."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@fault(
    name="out of file descriptors",
    outcome=TokenOutcome.EXCHANGED,
    idp=IdpOutcome.OK,
    client_sees="200",
    afterwards="connections are limited so that descriptors remain for outgoing requests: the one idle for longest "
    "is closed",
)
async def out_of_files(at: Environment) -> str:
    server = await at.begin(launcher=("sh", "-c", f'ulimit -n {FEW_FILES}; exec "$@"', "sh"))
    at.idp.may_answer.set()
    idle = [await at.connect() for _ in range(3 * FEW_FILES)]
    answer = await (await at.connect(token_request())).answer()
    await idle[0].sees_the_end()

    async def is_at_rest() -> bool:
        return Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    await eventually(is_at_rest)
    assert len(await at.scrape()) > 100
    return str(answer)


@fault(
    name="the clock steps back an hour in the middle of a login",
    outcome=TokenOutcome.EXCHANGED,
    client_sees="200",
    afterwards="earlier envelopes open, no wait is recorded as negative, and tokens are refreshed; deadlines and "
    "durations use the monotonic clock",
)
async def clock_steps_back(at: Environment) -> str:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        at_idp = await door.person.reaches_idp()
        clock.seconds -= 3600
        returned = await door.person.logs_in(at_idp)
        at.before = await door.samples()
        assert at.before["oauth_authorization_wait_seconds_sum", frozenset()] == 0
        exchanged = await door.token(code_request(code=query_of(returned.headers["location"])["code"]))
        at.after = await door.samples()
        clock.seconds -= 3600
        form = refresh_request(refresh_token=json_of(exchanged)["refresh_token"])
        assert (await door.token(form)).status_code == 200
    return str(exchanged.status_code)


async def with_a_collector(at: Environment, endpoint: str, workers: int = 1) -> str:
    """An exchange, a scrape and an end in time, whatever becomes of what is pushed."""
    environment = {
        "SEED_OAUTH_WORKERS": str(workers),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        # Longer than anybody here has patience: whatever comes to its end has not waited for it.
        "OTEL_EXPORTER_OTLP_TIMEOUT": str(10 * PATIENCE),
    }
    server = await at.begin(environment)
    at.idp.may_answer.set()
    answer = await (await at.connect(token_request())).answer()
    at.after = await at.scrape()
    server.process.send_signal(signal.SIGTERM)
    assert await at.ends() == 0
    return str(answer)


@asynccontextmanager
async def standing_still() -> AsyncIterator[str]:
    async def never_answers(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    async with listening(never_answers) as port:
        yield f"http://127.0.0.1:{port}"


COSTS_NOTHING = {
    "outcome": TokenOutcome.EXCHANGED,
    "idp": IdpOutcome.OK,
    "client_sees": "200",
}


@fault(
    name="the Collector is unreachable",
    afterwards="a scrape has all counts; the shutdown waits 4 seconds",
    **COSTS_NOTHING,
)
async def collector_gone(at: Environment) -> str:
    return await with_a_collector(at, f"http://127.0.0.1:{free_port()}")


@fault(name="the Collector hangs", afterwards="the same", **COSTS_NOTHING)
async def collector_slow(at: Environment) -> str:
    return await with_a_collector(at, await at.stack.enter_async_context(standing_still()))


@fault(
    name="the Collector hangs, with two workers",
    afterwards=f"{SHUTDOWN_TIMEOUT:.0f} seconds for the workers' spans, and the same for the supervisor's metrics",
    **COSTS_NOTHING,
)
async def collector_slow_with_workers(at: Environment) -> str:
    return await with_a_collector(at, await at.stack.enter_async_context(standing_still()), workers=2)


@fault(name="the Collector refuses", afterwards="the same; one log line per minute reports it", **COSTS_NOTHING)
async def collector_refuses(at: Environment) -> str:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"", b"503 Service Unavailable"))
        await reader.read()

    return await with_a_collector(at, f"http://127.0.0.1:{await at.stack.enter_async_context(listening(refuses))}")


@pytest.mark.parametrize(("fault", "scenario"), CASES, ids=[fault.name for fault, _ in CASES])
async def test_what_befalls_the_door_is_survived_as_far_as_it_can_be(
    tmp_path: Path, fault: Fault, scenario: Scenario
) -> None:
    """Faults, "The server": file descriptors, event loop, SIGTERM and SIGKILL, Collector; Client: 1,000 idle."""
    with anyio.fail_after(2 * PATIENCE):
        async with AsyncExitStack() as stack:
            at = Environment(tmp_path, stack)
            assert await scenario(at) == fault.client_sees
            if at.after is None and at.server.process.returncode is None:
                at.after = await at.scrape()
            if at.after is not None:
                assert increases(at.before, at.after) == counted(fault)
