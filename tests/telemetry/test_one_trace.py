"""One login, one trace: from the authorization request to the first use of its tokens."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState
from opentelemetry.util.types import Attributes
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth import Pipeline
from seed_oauth.envelopes import trace_context
from seed_oauth.envelopes.seal import Purpose, Sealer
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.telemetry.server_spans import WAIT, ServerSpans
from tests.broker import BrokerDoor, Clock
from tests.cli.test_cli import free_port
from tests.harness import ISSUER, code_request, json_of, query_of, refresh_request
from tests.http_client.test_transport import listening
from tests.resource_server.test_reverse_proxy import Recorder
from tests.telemetry.test_logs import lines_in
from tests.test_secrets import logging_as

pytestmark = pytest.mark.anyio

STRANGER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A traceparent with the sampled flag."""
OF_THE_STRANGER = 0x0AF7651916CD43DD8448EB211C80319C

STEPS = {
    "GET /oauth/authorize": None,
    "POST /oauth/consent": "GET /oauth/authorize",
    WAIT: "POST /oauth/consent",
    "GET /oauth/callback": "POST /oauth/consent",
    "POST of the exchange": "GET /oauth/callback",
    "POST /oauth/token": "GET /oauth/callback",
    "POST /mcp": "POST /oauth/token",
    "POST to the MCP server": "POST /mcp",
}
"""The spans of a login, each with its parent."""


@dataclass
class Traced:
    """A door with tracing, in front of an MCP server."""

    door: BrokerDoor
    mcp_server: Recorder
    exporter: InMemorySpanExporter

    async def call(self, tokens: dict[str, Any], **headers: str) -> httpx.Response:
        """A request to the MCP server."""
        return await self.door.http.post(
            "/mcp", headers={"Authorization": f"Bearer {tokens['access_token']}", **headers}
        )

    async def refreshed(self, tokens: dict[str, Any]) -> dict[str, Any]:
        return json_of(await self.door.token(refresh_request(refresh_token=tokens["refresh_token"])))

    def spans(self) -> dict[str, ReadableSpan]:
        """What was recorded since the last time, by name; none may come twice."""
        finished = self.exporter.get_finished_spans()
        self.exporter.clear()
        named = {name_of(span): span for span in finished}
        assert len(named) == len(finished)
        return named


def name_of(span: ReadableSpan) -> str:
    if span.kind is not SpanKind.CLIENT:
        return span.name
    assert span.attributes is not None
    at_the_idp = span.attributes["server.address"] == "idp.example"
    return f"{span.name} of the exchange" if at_the_idp else f"{span.name} to the MCP server"


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def links_of(span: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in span.links]


def tracer_provider(exporter: InMemorySpanExporter, sampler: Sampler = ALWAYS_ON) -> TracerProvider:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@asynccontextmanager
async def traced(sampler: Sampler = ALWAYS_ON, **settings: Any) -> AsyncIterator[Traced]:
    exporter, mcp_server = InMemorySpanExporter(), Recorder()
    async with listening(mcp_server) as port:
        behind = {"access_tokens": "own", "mcp_server": f"http://127.0.0.1:{port}/mcp", **settings}
        pipeline = Pipeline(tracer_provider(exporter, sampler))
        async with BrokerDoor(settings=behind, pipeline=pipeline) as door:
            yield Traced(door, mcp_server, exporter)


async def test_a_login_is_one_trace_up_to_the_first_use_of_its_tokens() -> None:
    async with traced() as site:
        assert (await site.call(await site.door.login())).status_code == 200
        spans = site.spans()
    assert len({trace_of(span) for span in spans.values()}) == 1
    names = {span.context.span_id: name for name, span in spans.items() if span.context is not None}
    assert {name: span.parent and names[span.parent.span_id] for name, span in spans.items()} == STEPS


async def test_the_wait_at_the_identity_provider_lasts_from_the_redirect_to_the_return() -> None:
    clock = Clock(1_700_000_000.0)
    exporter = InMemorySpanExporter()
    async with BrokerDoor(pipeline=Pipeline(tracer_provider(exporter)), now=clock) as door:
        await door.login()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    waited, returned = spans[WAIT], spans["GET /oauth/callback"]
    assert waited.start_time == 1_700_000_000 * 10**9
    assert waited.end_time == returned.start_time


async def test_a_clock_that_was_set_back_makes_no_wait_that_ends_before_it_begins() -> None:
    exporter = InMemorySpanExporter()
    async with BrokerDoor(pipeline=Pipeline(tracer_provider(exporter)), now=Clock(4_000_000_000.0)) as door:
        await door.login()
    waited = {span.name: span for span in exporter.get_finished_spans()}[WAIT]
    assert waited.start_time == waited.end_time


async def test_what_is_called_later_is_a_trace_of_its_own() -> None:
    async with traced() as site:
        tokens = await site.door.login()
        await site.call(tokens)
        login = trace_of(site.spans()["POST /oauth/token"])
        await site.call(tokens)
        later = site.spans()
    assert {trace_of(span) for span in later.values()} != {login}
    assert later["POST /mcp"].parent is None


async def test_calls_are_part_of_the_login_until_one_is_accepted() -> None:
    async with traced(mcp_server=f"http://127.0.0.1:{free_port()}/mcp") as site:
        tokens = await site.door.login()
        login = trace_of(site.spans()["POST /oauth/token"])
        for _ in range(2):
            assert (await site.call(tokens)).status_code == ResourceOutcome.MCP_SERVER_UNREACHABLE.status
            called = site.spans()
            assert {trace_of(span) for span in called.values()} == {login}
            to_server = called["POST to the MCP server"].attributes or {}
            assert to_server["error.type"] == ResourceOutcome.MCP_SERVER_UNREACHABLE.reason


async def test_every_refresh_is_linked_to_the_login() -> None:
    async with traced() as site:
        tokens = await site.door.login()
        login = trace_of(site.spans()["POST /oauth/token"])
        seen = {login}
        for _ in range(2):
            tokens = await site.refreshed(tokens)
            refresh = site.spans()["POST /oauth/token"]
            assert links_of(refresh) == [login]
            assert refresh.parent is None
            seen.add(trace_of(refresh))
        await site.call(tokens)
        called = site.spans()["POST /mcp"]
    assert len(seen) == 3
    assert trace_of(called) not in seen


async def test_signing_in_to_the_account_page_is_one_trace() -> None:
    async with traced(idp_scopes="openid") as site:
        sent = await site.door.person.http.get("/oauth/account")
        assert (await site.door.person.logs_in(sent.headers["location"])).is_redirect
        spans = [span for span in site.exporter.get_finished_spans() if span.name != "GET"]  # keys
    assert {"GET /oauth/account", WAIT, "GET /oauth/callback"} <= {span.name for span in spans}
    assert len({trace_of(span) for span in spans}) == 1


# What it costs.


async def states(door: BrokerDoor) -> list[int]:
    """Sizes of the state, the code, the access token and the refresh token."""
    at_idp = await door.person.reaches_idp()
    returned = await door.person.logs_in(at_idp)
    code = query_of(returned.headers["location"])["code"]
    tokens = json_of(await door.token(code_request(code=code)))
    return [len(query_of(at_idp)["state"]), len(code), len(tokens["access_token"]), len(tokens["refresh_token"])]


async def test_a_trace_context_takes_at_most_40_characters_of_an_envelope_and_none_without_tracing() -> None:
    sizes = []
    for pipeline in (Pipeline(), Pipeline(tracer_provider(InMemorySpanExporter()))):
        clock = Clock()
        async with BrokerDoor(settings={"access_tokens": "own"}, pipeline=pipeline, now=clock) as door:
            sizes.append(await states(door))
    without, with_it = sizes
    assert all(30 < more - less <= 40 for less, more in zip(without, with_it, strict=True))


def test_an_envelope_has_nothing_of_a_trace_without_tracing() -> None:
    sealer, empty = Sealer(["k" * 32], ISSUER), len("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    assert len(sealer.seal(Purpose.STATE, [], 0)) == empty
    assert trace_context.trace_id() is None


# Who decides what is sampled.


async def test_a_strangers_sampled_flag_samples_nothing() -> None:
    async with traced(ParentBased(ALWAYS_OFF)) as site:
        site.door.person.http.headers["traceparent"] = STRANGER
        site.door.http.headers["traceparent"] = STRANGER
        await site.call(await site.door.login())
        assert site.spans() == {}


async def test_a_strangers_trace_is_linked_and_takes_over_nothing() -> None:
    async with traced() as site:
        site.door.person.http.headers.update({"traceparent": STRANGER, "tracestate": f"a={'x' * 200}"})
        tokens = await site.door.login()
        spans = site.spans()
        await site.call(tokens, traceparent=STRANGER, tracestate="a=b")
        called = site.spans()["POST /mcp"]
    assert spans["GET /oauth/authorize"].parent is None
    for step in ("GET /oauth/authorize", "POST /oauth/consent", "GET /oauth/callback"):
        assert links_of(spans[step]) == [OF_THE_STRANGER]
        assert "x" * 200 not in spans[step].to_json()
    assert (trace_of(called), links_of(called)) == (trace_of(spans["POST /oauth/token"]), [OF_THE_STRANGER])


@pytest.mark.parametrize(
    "value", ["", "00", f"{STRANGER}-more", "ff" * 10_000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
async def test_a_traceparent_that_is_none_is_no_link(value: str) -> None:
    async with traced() as site:
        await site.door.http.get("/oauth/authorize", headers={"traceparent": value})
        assert links_of(site.spans()["GET /oauth/authorize"]) == []


class EverySecondRoot(Sampler):
    """Samples the first trace, and of the others every second one."""

    def __init__(self) -> None:
        self._asked = 0

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self._asked += 1
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self._asked % 2 else Decision.DROP)

    def get_description(self) -> str:
        return "every second root"


async def test_a_login_is_sampled_as_a_whole_or_not_at_all() -> None:
    async with traced(ParentBased(EverySecondRoot())) as site:
        await site.call(await site.door.login())
        assert site.spans().keys() == STEPS.keys()
        await site.call(await site.door.login())
        assert site.spans() == {}


# What the MCP server is told.


def told(mcp_server: Recorder, name: str) -> list[str]:
    return [value for header, value in mcp_server.headers if header == name]


async def test_the_mcp_server_is_told_the_trace_of_the_request_and_not_the_clients() -> None:
    async with traced() as site:
        await site.call(await site.door.login(), traceparent=STRANGER, tracestate="a=b")
        span = site.spans()["POST to the MCP server"]
    assert span.context is not None
    assert told(site.mcp_server, "traceparent") == [f"00-{trace_of(span):032x}-{span.context.span_id:016x}-01"]
    assert told(site.mcp_server, "tracestate") == []
    attributes = dict(span.attributes or {})
    port = attributes.pop("server.port")
    assert attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "url.full": f"http://127.0.0.1:{port}/mcp",
    }


async def test_an_error_of_the_mcp_server_is_one_in_the_span() -> None:
    async with traced() as site:
        site.mcp_server.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        await site.call(await site.door.login())
        span = site.spans()["POST to the MCP server"]
    assert (span.attributes or {})["error.type"] == "404"
    assert span.status.status_code is StatusCode.ERROR


async def test_without_tracing_the_mcp_server_is_told_the_clients_trace() -> None:
    mcp_server = Recorder()
    async with listening(mcp_server) as port:
        settings = {"access_tokens": "own", "mcp_server": f"http://127.0.0.1:{port}/mcp"}
        async with BrokerDoor(settings=settings) as door:
            tokens = await door.login()
            headers = {"Authorization": f"Bearer {tokens['access_token']}", "traceparent": STRANGER}
            assert (await door.http.post("/mcp", headers=headers)).status_code == 200
    assert told(mcp_server, "traceparent") == [STRANGER]


# Log lines.


@pytest.mark.parametrize("tracing", [True, False])
async def test_every_line_of_a_login_has_its_trace_while_there_is_tracing_and_its_flow_always(
    tracing: bool, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    audit_log = tmp_path / "audit.jsonl"
    provider = tracer_provider(InMemorySpanExporter()) if tracing else None
    settings = {"access_tokens": "own", "idp_scopes": "openid", "audit_log": str(audit_log)}
    with logging_as("json"):
        capsys.readouterr()
        async with BrokerDoor(settings=settings, pipeline=Pipeline(provider)) as door:
            await door.login()
        lines = [line for line in lines_in(capsys.readouterr().out) if line["event"] == "request"]
    audited = [json.loads(line) for line in audit_log.read_text().splitlines()]
    (flow_id,) = {line["flow_id"] for line in lines}
    assert {record["oauth.flow.id"] for record in audited} == {flow_id}
    assert [record["event.action"] for record in audited] == ["consent_given", "grant_issued"]
    traces = {line.get("trace_id") for line in lines} | {record.get("trace.id") for record in audited}
    assert len(traces) == 1
    assert (traces != {None}) is tracing


# The span of any request.


@pytest.mark.parametrize(
    ("path", "name"),
    [("/base/oauth/authorize", "GET /base/oauth/authorize"), ("/base/secret", "GET /base"), ("/secret", "GET")],
)
async def test_a_span_has_the_name_of_its_route(path: str, name: str) -> None:
    exporter = InMemorySpanExporter()
    async with BrokerDoor(settings={"issuer": f"{ISSUER}/base"}, pipeline=Pipeline(tracer_provider(exporter))) as door:
        await door.http.get(path)
    (span,) = exporter.get_finished_spans()
    assert span.name == name


@dataclass
class Played:
    """An app inside the middleware, and what it does with a request."""

    work: Callable[[], object]
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.work()
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body"})

    async def answer(self) -> ReadableSpan:
        app: ASGIApp = ServerSpans(self, tracer_provider(self.exporter))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{ISSUER}:8443") as http:
            await http.get("/anything?code=secret", headers={"User-Agent": "somebody"})
        return self.exporter.get_finished_spans()[-1]


async def test_a_span_has_the_attributes_of_the_semantic_conventions_and_no_query() -> None:
    span = await Played(lambda: None).answer()
    assert (span.name, span.kind, span.parent) == ("GET", SpanKind.SERVER, None)
    assert span.attributes == {
        "http.request.method": "GET",
        "url.path": "/anything",
        "url.scheme": "https",
        "server.address": "door.example",
        "server.port": 8443,
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "user_agent.original": "somebody",
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert span.status.status_code is StatusCode.ERROR


async def test_an_exception_is_told_by_its_type_alone() -> None:
    def fail() -> None:
        raise ValueError("secret")

    played = Played(fail)
    with pytest.raises(ValueError, match="secret"):
        await played.answer()
    (span,) = played.exporter.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("purpose", [Purpose.STATE, Purpose.REFRESH_TOKEN])
async def test_a_span_that_has_begun_already_is_linked_to_the_trace_of_the_envelope(purpose: Purpose) -> None:
    sealer, sealed = Sealer(["k" * 32], ISSUER), list[str]()
    began = await Played(lambda: sealed.append(sealer.seal(purpose, "content", 0))).answer()

    def open_late() -> None:
        assert trace_context.trace_id()
        assert sealer.open(purpose, sealed[0], lifetime=1, now=0) == "content"
        trace_context.waited(0)  # of which nothing is known

    span = await Played(open_late).answer()
    assert links_of(span) == [trace_of(began)]
    assert trace_of(span) != trace_of(began)


async def test_a_host_without_tracing_opens_what_one_with_it_has_sealed() -> None:
    sealer, sealed = Sealer(["k" * 32], ISSUER), list[str]()
    await Played(lambda: sealed.append(sealer.seal(Purpose.CODE, ["content"], 0))).answer()
    assert sealer.open(Purpose.CODE, sealed[0], lifetime=1, now=0) == ["content"]


async def test_a_provider_that_makes_no_spans_leaves_envelopes_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    at = 1_800_000_000.0  # for the length of an envelope depends on the digits of the time
    own = {"access_tokens": "own"}
    async with BrokerDoor(settings=own, pipeline=Pipeline(TracerProvider()), now=lambda: at) as door:
        disabled = await states(door)
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    async with BrokerDoor(settings=own, now=lambda: at) as door:
        assert await states(door) == disabled
