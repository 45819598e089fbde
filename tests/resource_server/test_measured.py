"""The operations of the MCP server in the metrics: at the reverse proxy and at `protect`, where the switch is on."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter
from starlette.types import Message, Receive, Scope, Send

from seed_oauth import Pipeline, Settings, protect
from seed_oauth.http.scope_keys import ADMITTED
from seed_oauth.outcomes import GrantType
from seed_oauth.resource_server.measured import LARGEST_ANSWER, LARGEST_REQUEST, MeasuredOperations
from seed_oauth.settings import SettingsError
from seed_oauth.telemetry.contract import ENDPOINTS, IdpOutcome, Operation
from seed_oauth.telemetry.mcp_operations import McpOperations
from tests.broker import BrokerDoor
from tests.harness import ISSUER, SETTINGS, FrontDoor
from tests.http_client.test_transport import listening
from tests.resource_server.test_reverse_proxy import Recorder
from tests.telemetry.test_forwarding import make_pipe

pytestmark = pytest.mark.anyio

COUNT = "mcp_server_operation_duration_seconds_count"
VERSION = {"MCP-Protocol-Version": "2025-11-25"}
OK = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
FAILED = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "no"}], "isError": True}}


def call(tool: str = "search") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}


def error(code: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}}


class Site:
    """A measured app that admits everybody and answers as told."""

    def __init__(self, *, admits: bool = True) -> None:
        self.pipeline = Pipeline()
        self.status = 200
        self.chunks: list[bytes] = [orjson.dumps(OK)]
        self.breaks_off = False
        self.received = b""
        self._admits = admits
        self._seconds = iter(range(1_000_000))
        app = MeasuredOperations(
            self._answer, self.pipeline.mcp_operations(), {"search"}, clock=lambda: next(self._seconds)
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._admits:
            scope[ADMITTED] = True
        more = True
        while more:
            message = await receive()
            self.received += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self.breaks_off:
            raise ConnectionError
        await send({"type": "http.response.body", "body": b""})

    async def counted(self) -> dict[tuple[str, ...], float]:
        """How many operations there were, by the values of their labels."""
        samples = await FrontDoor(pipeline=self.pipeline).samples()
        return {
            tuple(value for _, value in sorted(labels) if value): times
            for (name, labels), times in samples.items()
            if name == COUNT
        }

    async def asks(self, content: object, headers: Mapping[str, str] = VERSION) -> None:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        await self.http.post("/mcp", content=body, headers=headers)
        assert self.received.endswith(body)


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        (call(), ("search", "tools/call")),
        (call("delete_everything"), ("_other", "tools/call")),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, ("tools/list",)),
        ({"jsonrpc": "2.0", "method": "notifications/initialized"}, ("notifications/initialized",)),
        ({"jsonrpc": "2.0", "id": 1, "method": "made/up"}, ("_other",)),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, ("_other",)),
        ([call(), call()], ("_other",)),
        ([call()], ("search", "tools/call")),
        ({**call(), "params": ["search"]}, ("_other", "tools/call")),
        ({**call(), "method": 1}, ("_other",)),
        (b"no json", ("_other",)),
        (b"", ("_other",)),
        (b"[" * 10_000 + b"]" * 10_000, ("_other",)),
        (b'{"method": "tools/call", "params": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, ("_other",)),
        ({**call(), "padding": "x" * LARGEST_REQUEST}, ("_other",)),
    ],
)
async def test_an_operation_is_counted_by_method_and_tool(asked: object, counted: tuple[str, ...]) -> None:
    site = Site()
    await site.asks(asked)
    assert await site.counted() == {counted: 1}


@pytest.mark.parametrize(
    ("status", "chunks", "kind"),
    [
        (200, [orjson.dumps(FAILED)], "tool_error"),
        (200, [orjson.dumps(FAILED)[:30], orjson.dumps(FAILED)[30:]], "tool_error"),
        (200, [b"event: message\r\ndata: " + orjson.dumps(FAILED) + b"\r\n\r\n"], "tool_error"),
        (200, [b'data: {"method": "notifications/progress"}\n\n', b"data:" + orjson.dumps(FAILED)], "tool_error"),
        (200, [orjson.dumps(error(-32602))], "-32602"),
        (200, [orjson.dumps(error(123456))], "_other"),
        (500, [orjson.dumps(FAILED)], "5xx"),
        (403, [b""], "4xx"),
        (200, [b'{"isError": true', b" and no json"], None),
        (200, [b'"isError"'], None),
        (200, [b'["isError"]'], None),
        (200, [b'{"result": "isError", "isError": true}'], None),
        (200, [b"x" * LARGEST_ANSWER, orjson.dumps(FAILED)], None),
    ],
)
async def test_a_failure_is_counted_by_its_kind(status: int, chunks: list[bytes], kind: str | None) -> None:
    site = Site()
    site.status, site.chunks = status, chunks
    await site.asks(call())
    # In the order of the labels' names: error_type, gen_ai_tool_name, mcp_method_name.
    assert await site.counted() == {tuple(filter(None, (kind, "search", "tools/call"))): 1}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("content_type", "streams"), [("text/event-stream; charset=utf-8", 1), ("application/json", 0)]
)
@pytest.mark.parametrize("breaks_off", [False, True])
async def test_an_event_stream_is_open_until_it_ends(
    method: str, content_type: str, streams: int, breaks_off: bool
) -> None:
    seen: list[float] = []

    async def stream(_: Scope, __: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0"), (b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seen.append(operations.open_streams)
        if breaks_off:
            raise ConnectionError
        await send({"type": "http.response.body", "body": b""})

    operations = Pipeline().mcp_operations()
    app = MeasuredOperations(stream, operations, ())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as http:
        with pytest.raises(ConnectionError) if breaks_off else nullcontext():
            await http.request(method, "/mcp")
    assert seen == [streams]
    assert operations.open_streams == 0


async def test_streams_are_in_the_scrape_where_the_switch_is_on() -> None:
    for switch, there in (("on", True), ("off", False)):
        async with BrokerDoor(
            settings={"mcp_server": "http://127.0.0.1:1/mcp", "access_tokens": "own", "mcp_metrics": switch}
        ) as door:
            assert (("seed_oauth_mcp_streams", frozenset()) in await door.samples()) is there


async def test_an_answer_that_breaks_off_is_cancelled() -> None:
    site = Site()
    site.breaks_off = True
    with pytest.raises(ConnectionError):
        await site.http.post("/mcp", json=call())
    assert await site.counted() == {("cancelled", "search", "tools/call"): 1}


async def test_what_follows_the_body_is_no_operation_of_its_own() -> None:
    async def with_trailers(scope: Scope, receive: Receive, send: Send) -> None:
        await _admitted(scope, receive, send, orjson.dumps(OK))
        await send({"type": "http.response.trailers", "headers": []})

    pipeline = Pipeline()
    app = MeasuredOperations(with_trailers, pipeline.mcp_operations(), ())
    await app(_scope(), _body(orjson.dumps(call())), _ignored)
    assert await operations_of(pipeline) == 1


async def test_a_hundred_thousand_hostile_names_make_no_series() -> None:
    site = Site()
    for number in range(200):
        await site.asks(call(f"tool-{number}"), {"MCP-Protocol-Version": f"{number}"})
        await site.asks({"jsonrpc": "2.0", "id": 1, "method": f"method-{number}"}, {})
    before = await FrontDoor(pipeline=site.pipeline).samples()
    operations = site.pipeline.mcp_operations()
    app = MeasuredOperations(_admitted, operations, {"search"})
    for number in range(100_000):
        await app(_scope(), _body(orjson.dumps(call(f"hostile-{number}"))), _ignored)
    assert (await FrontDoor(pipeline=site.pipeline).samples()).keys() == before.keys()
    assert await site.counted() == {("_other", "tools/call"): 100_200, ("_other",): 200}


async def test_the_protocol_version_is_counted_from_a_closed_list() -> None:
    site = Site()
    for headers in (VERSION, VERSION, {"MCP-Protocol-Version": "3000-01-01"}, {}):
        await site.asks(call(), headers)
    door = FrontDoor(pipeline=site.pipeline)
    assert await door.value("seed_oauth_mcp_requests_total", protocol_version="2025-11-25") == 2
    assert await door.value("seed_oauth_mcp_requests_total", protocol_version="_other") == 2


async def test_who_is_not_admitted_and_what_is_no_post_is_no_operation() -> None:
    site = Site(admits=False)
    await site.asks(call())
    await site.http.get("/mcp")
    assert await site.counted() == {}


@given(st.binary(max_size=200), st.binary(max_size=200))
async def test_whatever_is_sent_passes_unchanged_and_raises_nothing(asked: bytes, answered: bytes) -> None:
    sent: list[bytes] = []

    async def keep(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await _admitted(scope, receive, send, answered)

    operations = McpOperations(NoOpMeter("none"))
    await MeasuredOperations(echo, operations, ())(_scope(), _body(asked), keep)
    assert b"".join(sent) == answered


def _scope() -> Scope:
    return {"type": "http", "method": "POST", "headers": []}


def _body(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _ignored(_: Message) -> None:
    pass


async def _admitted(scope: Scope, receive: Receive, send: Send, body: bytes = b"") -> None:
    scope[ADMITTED] = True
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def operations_of(pipeline: Pipeline) -> float:
    samples = await FrontDoor(pipeline=pipeline).samples()
    return sum(value for (name, _), value in samples.items() if name == COUNT)


@pytest.fixture
async def mcp_server() -> AsyncIterator[str]:
    async with listening(Recorder()) as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.mark.parametrize(("switch", "counted"), [("on", 1), ("off", 0)])
async def test_the_reverse_proxy_and_protect_count_what_they_admit(mcp_server: str, switch: str, counted: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _admitted(scope, receive, send, json.dumps(OK).encode())

    more = {"mcp_server": mcp_server, "access_tokens": "own", "mcp_metrics": switch, "mcp_tools": ("search",)}
    async with BrokerDoor(settings={**SETTINGS, **more}) as door:
        tokens = await door.login()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await door.http.post("/mcp", json=call(), headers=headers)).status_code == 200
        assert (await door.http.post("/mcp", json=call())).status_code == 401
        assert await operations_of(door.pipeline) == counted
        protected = protect(app, Settings(**{**SETTINGS, **more, "mcp_server": None}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(protected), base_url=ISSUER) as http:
            assert (await http.post("/mcp", json=call(), headers=headers)).status_code == 200
            assert (await http.post("/mcp", json=call())).status_code == 401
        assert isinstance(protected.pipeline, Pipeline)
        assert await operations_of(protected.pipeline) == counted
        await protected.aclose()


async def test_workers_measure_in_the_buckets_of_the_conventions() -> None:
    pipe = make_pipe(Pipeline())
    pipe.worker.mcp_operations().record(0.015, "tools/call", "search", None, "2025-11-25")
    pipe.replay.read()
    samples = await FrontDoor(pipeline=pipe.supervisor).samples()
    bounds = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "mcp_server_operation_duration_seconds_bucket"
    }
    assert min(bounds) == 0.01
    assert sorted(bounds)[-2] == 300
    assert (bounds[0.01], bounds[0.02]) == (0, 1)


async def test_more_labels_than_a_dashboard_can_show_come_under_one() -> None:
    pipeline = Pipeline()
    operations = pipeline.mcp_operations()
    for number in range(100):
        operations.record(1.0, "tools/call", f"tool-{number}", None, "2025-11-25")
    samples = await FrontDoor(pipeline=pipeline).samples()
    assert len([name for name, _ in samples if name == COUNT]) <= 26


async def test_an_instance_keeps_under_a_thousand_series_however_many_tools_fail() -> None:
    pipeline = Pipeline()
    operations = pipeline.mcp_operations()
    for method in ("initialize", "notifications/initialized", "tools/list"):
        operations.record(1.0, method, None, None, "2025-11-25")
    for kind in (None, "tool_error", "4xx", "5xx", "cancelled", "-32602"):
        for number in range(20):
            operations.record(1.0, "tools/call", f"tool-{number}", kind, "2025-11-25")
    for outcome in (row for rows in ENDPOINTS for row in rows):
        pipeline.telemetry.record(outcome, waited=1.0)
    for asked in Operation:
        pipeline.telemetry.record_idp_request(asked, IdpOutcome.OK, 0.1)
    for grant_type in GrantType:
        pipeline.telemetry.record_exchange(grant_type, IdpOutcome.OK, 0.1)
    samples = await FrontDoor(pipeline=pipeline).samples()
    named = {dict(labels).get("gen_ai_tool_name") for name, labels in samples if name == COUNT}
    assert named >= {f"tool-{number}" for number in range(20)}
    assert len([name for name, _ in samples if name.startswith(("oauth_", "mcp_", "seed_oauth_"))]) <= 1000


def test_tools_are_named_by_the_setting_and_by_the_rules() -> None:
    settings = Settings(**SETTINGS, mcp_tools=("search",), tool_scopes={"write": ("write_file", "delete_*")})
    assert settings.measured_tools(settings.tool_scopes) == {"search", "write_file"}


@pytest.mark.parametrize("tools", ["delete_*", ",".join(f"tool{number}" for number in range(21))])
def test_tools_with_a_wildcard_and_too_many_of_them_are_refused(monkeypatch: pytest.MonkeyPatch, tools: str) -> None:
    monkeypatch.setenv("SEED_OAUTH_MCP_TOOLS", tools)
    with pytest.raises(SettingsError, match="MCP_TOOLS"):
        Settings.load(**SETTINGS)
