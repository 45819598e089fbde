"""The spans of MCP operations: at the reverse proxy, at `protect` in an app that traces, and at `protect` alone."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Receive, Scope, Send

from seed_oauth import Pipeline
from seed_oauth.resource_server.measured import LARGEST_REQUEST
from seed_oauth.telemetry.mcp_operations import OTHER
from seed_oauth.telemetry.mcp_spans import McpSpans
from seed_oauth.telemetry.server_spans import ServerSpans
from tests.http_client.test_transport import response
from tests.resource_server.test_measured import FAILED, OK, VERSION, call
from tests.resource_server.test_protect import Protected, good_token
from tests.telemetry.test_one_trace import OF_THE_STRANGER, STRANGER, trace_of, traced, tracer_provider

pytestmark = pytest.mark.anyio

SPAN_OF_THE_STRANGER = 0xB7AD6B7169203331
MEASURED: Mapping[str, Any] = {"mcp_metrics": "on", "mcp_tools": ("search",)}
TABLE: Mapping[str, Any] = {"method_scopes": {"admin": ["prompts/get"]}}


@dataclass
class Site:
    """An MCP server behind a door that traces, and what becomes of a request to it."""

    ask: Callable[[bytes, Mapping[str, str]], Awaitable[httpx.Response]]
    exporter: InMemorySpanExporter
    received: Callable[[], bytes]

    async def spans(self, content: object, **headers: str) -> list[ReadableSpan]:
        """Those of a request with this body, which the MCP server gets unchanged."""
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        self.exporter.clear()
        await self.ask(body, {**VERSION, "Content-Type": "application/json", **headers})
        assert self.received() == body
        return list(self.exporter.get_finished_spans())

    async def of(self, content: object, **headers: str) -> tuple[ReadableSpan, ReadableSpan | None]:
        """The span of the operation, and that of its HTTP request if there is one."""
        spans = await self.spans(content, **headers)
        (operation,) = (span for span in spans if "mcp.method.name" in (span.attributes or {}))
        others = [span for span in spans if span.kind is SpanKind.SERVER and span is not operation]
        assert len(others) <= 1
        return operation, others[0] if others else None


@asynccontextmanager
async def proxy(sampler: Sampler, answer: bytes, settings: Mapping[str, Any]) -> AsyncIterator[Site]:
    async with traced(sampler, **settings) as site:
        site.mcp_server.answer = response(answer)
        tokens = await site.door.login()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}

        async def ask(body: bytes, headers: Mapping[str, str]) -> httpx.Response:
            return await site.door.http.post("/mcp", content=body, headers={**bearer, **headers})

        await ask(b"{}", {})  # so that the login is over
        yield Site(ask, site.exporter, lambda: site.mcp_server.bodies[-1])


@asynccontextmanager
async def protected(
    sampler: Sampler, answer: bytes, settings: Mapping[str, Any], *, in_a_traced_app: bool
) -> AsyncIterator[Site]:
    exporter = InMemorySpanExporter()
    provider = tracer_provider(exporter, sampler)
    bodies: list[bytes] = []

    async def server(_: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        bodies.append(body)
        # As an app does that has instrumentation of its own.
        with provider.get_tracer("app").start_as_current_span("work of the app"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": answer})

    async with Protected(server, settings=settings, pipeline=Pipeline(provider)) as door:
        app = ServerSpans(door.protected, provider) if in_a_traced_app else door.protected
        bearer = {"Authorization": f"Bearer {good_token()}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://door.example") as http:

            async def ask(body: bytes, headers: Mapping[str, str]) -> httpx.Response:
                return await http.post("/mcp", content=body, headers={**bearer, **headers})

            yield Site(ask, exporter, lambda: bodies[-1])


@asynccontextmanager
async def site_at(
    place: str, sampler: Sampler = ALWAYS_ON, answer: object = OK, **settings: Any
) -> AsyncIterator[Site]:
    said, all_settings = orjson.dumps(answer), {**MEASURED, **settings}
    if place == "proxy":
        async with proxy(sampler, said, all_settings) as site:
            yield site
    else:
        async with protected(sampler, said, all_settings, in_a_traced_app=place == "protect in a traced app") as site:
            yield site


everywhere = pytest.mark.parametrize("place", ["proxy", "protect in a traced app", "protect"])


def meta(traceparent: object = STRANGER, **more: object) -> dict[str, Any]:
    """A call of a tool from within the span of a client."""
    asked = call()
    return {**asked, "params": {**asked["params"], "_meta": {"traceparent": traceparent, **more}}}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan | None) -> int | None:
    return span.context.span_id if span and span.context else None


def is_within(operation: ReadableSpan, http: ReadableSpan) -> bool:
    times = [http.start_time, operation.start_time, operation.end_time, http.end_time]
    return times == sorted(time for time in times if time is not None)


# What it belongs to.


@everywhere
@pytest.mark.parametrize("settings", [{}, TABLE], ids=["no table", "a table"])
async def test_the_span_of_the_client_is_the_parent_and_the_http_request_is_linked(
    place: str, settings: Mapping[str, Any]
) -> None:
    async with site_at(place, **settings) as site:
        operation, http = await site.of(meta())
    assert (operation.name, operation.kind) == ("tools/call search", SpanKind.SERVER)
    assert (trace_of(operation), parent_of(operation)) == (OF_THE_STRANGER, SPAN_OF_THE_STRANGER)
    assert operation.parent is not None
    assert operation.parent.is_remote
    assert [link.context.span_id for link in operation.links] == ([id_of(http)] if http else [])
    assert operation.attributes == {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "mcp.protocol.version": "2025-11-25",
    }
    assert (http is None) is (place == "protect")
    assert operation.start_time is not None
    assert http is None or is_within(operation, http)


@everywhere
async def test_without_a_span_of_the_client_the_http_request_is_the_parent(place: str) -> None:
    async with site_at(place) as site:
        operation, http = await site.of({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert operation.name == "tools/list"
    assert parent_of(operation) == id_of(http)
    assert operation.links == ()
    assert operation.attributes == {"mcp.method.name": "tools/list", "mcp.protocol.version": "2025-11-25"}


async def test_the_request_to_the_mcp_server_belongs_to_the_http_request() -> None:
    async with site_at("proxy") as site:
        spans = await site.spans(meta())
    (to_server,) = (span for span in spans if span.kind is SpanKind.CLIENT)
    (http,) = (span for span in spans if span.name == "POST /mcp")
    assert parent_of(to_server) == id_of(http)


@everywhere
async def test_a_traceparent_that_is_none_is_as_if_it_were_not_there(place: str) -> None:
    async with site_at(place) as site:
        for traceparent in (
            None,
            7,
            [STRANGER],
            {"traceparent": STRANGER},
            "",
            STRANGER.upper(),
            f"{STRANGER}\n",
            f"{STRANGER}-more",
            f"01{STRANGER[2:]}",
            f"00-{'0' * 32}-{'1' * 16}-01",
            f"00-{'1' * 32}-{'0' * 16}-01",
            f"00-{'٣' * 32}-{'1' * 16}-01",
            "ff" * 10_000,
        ):
            operation, http = await site.of(meta(traceparent))
            assert (operation.name, parent_of(operation), operation.links) == ("tools/call search", id_of(http), ())


@given(
    st.text()
    | st.text("0123456789abcdefABCDEF-", max_size=60)
    | st.from_regex(r"\A[0-9a-f]{2}-[01a]{32}-[01a]{16}-[0-9a-f]{2}\Z")
    | st.recursive(st.none() | st.booleans() | st.integers() | st.floats(), st.lists)
)
def test_whatever_is_sent_as_traceparent_a_span_has_a_parent_only_by_the_letter_of_w3c(traceparent: object) -> None:
    exporter = InMemorySpanExporter()
    McpSpans(tracer_provider(exporter)).begin().end("ping", None, None, OTHER, traceparent=traceparent)
    (span,) = exporter.get_finished_spans()
    found = re.match(r"^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}\Z", str(traceparent), re.ASCII)
    assert parent_of(span) == (int(found[2], 16) if found else None)
    assert found is None or trace_of(span) == int(found[1], 16)


@everywhere
async def test_any_body_is_one_span_with_a_name_from_a_closed_list(place: str) -> None:
    bodies: list[tuple[object, str, bool]] = [
        ([meta(), meta()], "_other", False),
        ([meta()], "tools/call search", True),
        (b"no json", "_other", False),
        (b"", "_other", False),
        (b"[" * 10_000 + b"]" * 10_000, "_other", False),
        (b'{"method": "ping", "params": {"_meta": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_002, "_other", False),
        ({**meta(), "padding": "x" * LARGEST_REQUEST}, "_other", False),
        ({**meta(), "params": {"name": "search", "_meta": [STRANGER]}}, "tools/call search", False),
        ({**meta(), "params": [STRANGER]}, "tools/call", False),
        ({**meta(), "params": {**meta()["params"], "name": "made_up"}}, "tools/call", True),
        ({**meta(), "method": "made/up"}, "_other", True),
    ]
    async with site_at(place) as site:
        for asked, name, is_in_the_trace in bodies:
            operation, http = await site.of(asked)
            parent = SPAN_OF_THE_STRANGER if is_in_the_trace else id_of(http)
            assert (operation.name, parent_of(operation)) == (name, parent)


@everywhere
async def test_in_a_body_that_is_larger_than_what_is_read_only_the_table_knows_the_operation(place: str) -> None:
    async with site_at(place, **TABLE) as site:
        operation, http = await site.of({**meta(), "padding": "x" * LARGEST_REQUEST})
    assert (operation.name, parent_of(operation)) == ("tools/call search", id_of(http))


# Who decides what is sampled.

CHOSEN = f"00-{1:032x}-{1:016x}-01"
"""A trace id that every ratio above 0 samples."""


@everywhere
@pytest.mark.parametrize(
    "sampler",
    [ALWAYS_OFF, TraceIdRatioBased(2**-40), ParentBased(TraceIdRatioBased(0)), ParentBased(TraceIdRatioBased(2**-40))],
    ids=lambda sampler: sampler.get_description(),
)
async def test_neither_flag_nor_trace_id_of_a_stranger_samples_anything(place: str, sampler: Sampler) -> None:
    async with site_at(place, sampler) as site:
        for traceparent in (STRANGER, CHOSEN):
            assert await site.spans(meta(traceparent), traceparent=traceparent) == []


@everywhere
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ParentBased(ALWAYS_ON), ParentBased(TraceIdRatioBased(1))])
async def test_a_stranger_without_the_flag_is_sampled_like_everybody(place: str, sampler: Sampler) -> None:
    async with site_at(place, sampler) as site:
        operation, _ = await site.of(meta(f"{STRANGER[:-2]}00"))
    assert trace_of(operation) == OF_THE_STRANGER


async def test_a_provider_that_makes_no_spans_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    spans = McpSpans(TracerProvider())
    for traceparent in (STRANGER, None):
        spans.begin().end("ping", None, None, OTHER, traceparent=traceparent)


# How it went.


@everywhere
@pytest.mark.parametrize(
    ("answer", "kind"),
    [(FAILED, "tool_error"), ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}}, "-32602")],
)
async def test_an_operation_that_fails_is_an_error(place: str, answer: object, kind: str) -> None:
    async with site_at(place, answer=answer) as site:
        operation, _ = await site.of(meta())
    assert (operation.attributes or {})["error.type"] == kind
    assert operation.status.status_code is StatusCode.ERROR
    assert operation.status.description is None


@everywhere
async def test_who_is_not_admitted_and_what_is_not_measured_is_no_span(place: str) -> None:
    async with site_at(place) as site:
        refused = await site.ask(orjson.dumps(meta()), {"Authorization": "Bearer no"})
        assert refused.status_code == 401
        names = {span.name for span in site.exporter.get_finished_spans()}
    assert not {name for name in names if name.startswith("tools/call")}
    async with site_at(place, mcp_metrics="off") as site:
        assert not [span for span in await site.spans(meta()) if span.name.startswith("tools/call")]


@everywhere
async def test_nothing_of_what_a_client_or_a_server_says_is_in_the_span(place: str) -> None:
    canaries = [f"canary-{number}" for number in range(9)]
    tool, argument, request_id, state, baggage, session, version, message, data = canaries
    answer = {"jsonrpc": "2.0", "id": request_id, "error": {"code": -32602, "message": message, "data": data}}
    asked = {**meta(tracestate=f"a={state}", baggage=f"b={baggage}"), "id": request_id}
    asked["params"] |= {"name": tool, "arguments": {"a": argument}}
    async with site_at(place, answer=answer) as site:
        headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": version}
        operation, _ = await site.of(asked, **headers)
    assert operation.name == "tools/call"
    assert operation.attributes == {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "error.type": "-32602",
    }
    assert "canary" not in operation.to_json()
    assert "canary" not in str([link.context for link in operation.links])
