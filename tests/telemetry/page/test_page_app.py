"""What the page loads: its files, the figures, and the events; how many may look at it, and who may not."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from importlib.resources import files
from random import Random
from typing import Any

import anyio
import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry, Metric

from seed_oauth import Pipeline, Settings, create_metrics_app
from seed_oauth.server.listener import Listener, listen, metrics_listener
from seed_oauth.telemetry import MetricsPage
from seed_oauth.telemetry.page import app as page_app
from seed_oauth.telemetry.page.history import COARSE_INTERVAL, INTERVAL
from tests.faults.served import connect, connections_of
from tests.harness import FrontDoor, json_of, registration_request
from tests.integration.real_parts import eventually

pytestmark = pytest.mark.anyio

PATIENCE = 10
NOW = 1_800_000_000.0
STATIC = files("seed_oauth.telemetry.page").joinpath("static")
LOADED = ["/", "/page.css", "/page.js", "/charts.js", "/uplot.css", "/uplot.js", "/figures"]


@asynccontextmanager
async def serving(page: MetricsPage, registry: CollectorRegistry) -> AsyncIterator[Listener]:
    """A metrics listener with this page on a real socket, with its lifespan."""
    with listen("127.0.0.1", 0, "METRICS_PORT") as listening:
        listener = Listener(create_metrics_app(registry, page=page), listening)
        running = asyncio.create_task(listener.run_until_stopped())
        try:
            await eventually(lambda: _is_started(listener))
            yield listener
        finally:
            listener.should_exit = True
            with anyio.fail_after(PATIENCE):
                await running


async def _is_started(listener: Listener) -> bool:
    return listener.started


def http(listener: Listener) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=listener.url, trust_env=False)


def page_of(pipeline: Pipeline, interval: float = 3600) -> MetricsPage:
    return MetricsPage(pipeline.registry, pipeline.failed_logins, title="https://door.example", interval=interval)


async def next_event(lines: AsyncIterator[str]) -> dict[str, Any]:
    with anyio.fail_after(PATIENCE):
        async for line in lines:
            if line.startswith("data: "):
                return dict(orjson.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream has ended")


async def test_the_figures_are_those_of_the_counters_since_the_page_began() -> None:
    async with FrontDoor() as door:
        page = page_of(door.pipeline)
        async with serving(page, door.pipeline.registry) as listener, http(listener) as viewer:
            await door.authorize()
            await door.authorize(code_challenge_method="plain")
            page.read()
            figures = json_of(await viewer.get("/figures"))
    steps = {step["step"]: step["count"] for step in figures["periods"][0]["steps"]}
    assert figures["title"] == "https://door.example"
    assert (steps["requested"], steps["exchanged"]) == (2, 0)
    assert [error["reason"] for error in figures["periods"][0]["errors"]] == ["bad_code_challenge_method"]
    (failed,) = figures["failed"]
    assert (failed["endpoint"], failed["reason"], failed["cause"]) == (
        "authorize",
        "bad_code_challenge_method",
        "client",
    )
    assert re.fullmatch(r"[0-9a-f]{16}", failed["correlation_id"])
    assert figures["now"]["workers"] == [{"worker": "0", "up": True}]


async def test_times_are_those_of_the_clock_and_never_go_back() -> None:
    times = iter([NOW, NOW + 5, NOW + 4 * 3600, NOW])
    pipeline = Pipeline()
    page = MetricsPage(pipeline.registry, pipeline.failed_logins, clock=lambda: next(times))
    for _ in range(4):
        page.read()
    app = create_metrics_app(pipeline.registry, page=page)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://metrics") as viewer:
        figures = json_of(await viewer.get("/figures"))
    assert [point[0] for point in figures["fine"]] == [NOW + 5, NOW + 4 * 3600, NOW + 4 * 3600 + INTERVAL]


async def test_viewers_get_an_event_after_each_reading_with_the_latest_points_only() -> None:
    pipeline = Pipeline()
    async with serving(page_of(pipeline, interval=0.02), pipeline.registry) as listener, http(listener) as viewer:
        async with viewer.stream("GET", "/events") as stream:
            lines = stream.aiter_lines()
            events = [await next_event(lines) for _ in range(3)]
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert events[1]["tick"] == events[0]["tick"] + 1
        assert [len(event["fine"]) for event in events] == [1, 1, 1]
        assert len(json_of(await viewer.get("/figures"))["fine"]) >= 3


async def test_one_reading_is_encoded_once_for_all_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    page = page_of(pipeline)
    encoded: list[int] = []
    content = MetricsPage._content  # noqa: SLF001 - what is encoded

    def counting(self: MetricsPage, *, whole: bool) -> dict[str, Any]:
        made = content(self, whole=whole)
        encoded.append(made["tick"])
        return made

    monkeypatch.setattr(MetricsPage, "_content", counting)
    async with serving(page, pipeline.registry) as listener, http(listener) as viewer, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(viewer.stream("GET", "/events")) for _ in range(5)]
        lines = [stream.aiter_lines() for stream in streams]
        for line in lines:
            assert await anext(line) == "retry: 5000"
        page.read()
        events = [await next_event(line) for line in lines]
    assert {event["tick"] for event in events} == {2}
    assert encoded == [2]


async def test_a_hundred_viewers_leave_connections_for_scrapers_and_the_others_poll() -> None:
    pipeline = Pipeline()
    page = page_of(pipeline)
    async with serving(page, pipeline.registry) as listener, AsyncExitStack() as stack:
        statuses = []
        unlimited = httpx.Limits(max_connections=None)
        viewers = httpx.AsyncClient(base_url=listener.url, trust_env=False, limits=unlimited)
        await stack.enter_async_context(viewers)
        for _ in range(100):
            stream = await stack.enter_async_context(viewers.stream("GET", "/events"))
            statuses.append(stream.status_code)
        assert statuses == [200] * page_app.MOST_VIEWERS + [503] * (100 - page_app.MOST_VIEWERS)
        async with http(listener) as other:
            assert (await other.get("/metrics")).status_code == 200
            assert (await other.get("/figures")).status_code == 200
    assert page_app.MOST_VIEWERS * 2 < 64


async def test_a_viewer_who_leaves_makes_room() -> None:
    pipeline = Pipeline()
    async with serving(page_of(pipeline), pipeline.registry) as listener, http(listener) as viewer:
        for _ in range(page_app.MOST_VIEWERS * 2):
            async with viewer.stream("GET", "/events"):
                pass

        async def there_is_room() -> bool:
            async with viewer.stream("GET", "/events") as stream:
                return stream.status_code == 200

        await eventually(there_is_room)


async def test_a_head_request_takes_no_viewers_place() -> None:
    pipeline = Pipeline()
    async with serving(page_of(pipeline), pipeline.registry) as listener, http(listener) as viewer:
        for _ in range(page_app.MOST_VIEWERS + 1):
            with anyio.fail_after(PATIENCE):
                assert (await viewer.head("/events")).status_code == 200
        async with viewer.stream("GET", "/events") as stream:
            assert stream.status_code == 200


async def test_a_viewer_who_does_not_read_is_dropped_and_nothing_is_kept_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = Pipeline()
    # Larger events, so that the buffers of the sockets are full sooner.
    page = MetricsPage(pipeline.registry, pipeline.failed_logins, title="x" * 500_000, interval=0.01)
    async with serving(page, pipeline.registry) as listener:
        connections = connections_of(listener)
        monkeypatch.setattr(connections, "limits", connections.limits)
        object.__setattr__(connections.limits, "unread", 0.1)
        client = await connect(listener, reads=False)
        await client.send(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

        async def is_gone() -> bool:
            return not connections.connections

        await eventually(lambda: _negated(is_gone))
        await eventually(is_gone)
        client.leave()


async def _negated(condition: Any) -> bool:
    return not await condition()


async def test_open_streams_do_not_delay_the_end() -> None:
    pipeline = Pipeline()
    async with AsyncExitStack() as stack:
        async with serving(page_of(pipeline), pipeline.registry) as listener:
            viewer = await stack.enter_async_context(http(listener))
            stream = await stack.enter_async_context(viewer.stream("GET", "/events"))
        # The listener has stopped, within PATIENCE and not after the 30 seconds that requests have to finish.
        assert [line async for line in stream.aiter_lines()] == ["retry: 5000", ""]


@pytest.mark.parametrize("path", [*LOADED, "/events"])
async def test_every_answer_forbids_all_but_what_this_listener_serves(path: str) -> None:
    pipeline = Pipeline()
    async with serving(page_of(pipeline), pipeline.registry) as listener, http(listener) as viewer:
        async with viewer.stream("GET", path) as answer:
            policy = answer.headers["content-security-policy"]
            headers = answer.headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await viewer.request(method, path)).status_code == 405
        assert (await viewer.head(path)).status_code == 200


@pytest.mark.parametrize("path", LOADED)
async def test_the_page_is_not_reached_by_a_rebound_name(path: str) -> None:
    with listen("127.0.0.1", 0, "METRICS_PORT") as listening:
        listener = metrics_listener(Settings(), Pipeline(), listening)
        serving = asyncio.create_task(listener.run_until_stopped())
        async with http(listener) as viewer:
            assert (await viewer.get(path, headers={"Host": "evil.example"})).status_code == 421
            assert (await viewer.get(path)).status_code == 200
        listener.should_exit = True
        await serving


async def test_the_page_can_be_switched_off() -> None:
    with listen("127.0.0.1", 0, "METRICS_PORT") as listening:
        listener = metrics_listener(Settings(metrics_page=False), Pipeline(), listening)
        serving = asyncio.create_task(listener.run_until_stopped())
        async with http(listener) as viewer:
            assert (await viewer.get("/")).text == "The metrics are at /metrics\n"
            assert (await viewer.get("/figures")).status_code == 404
        listener.should_exit = True
        await serving


async def test_a_full_page_is_at_most_60_kilobytes_over_the_wire() -> None:
    """Six hours of figures that differ all the time, with every error and every failed login."""
    chance = Random(1)  # noqa: S311 - a repeatable mix
    pipeline = Pipeline()

    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    page = MetricsPage(_Noisy(pipeline.registry, chance), pipeline.failed_logins, clock=clock)
    for seconds in [COARSE_INTERVAL] * 180 + [INTERVAL] * 120:
        page.read()
        clock.now += seconds
    app = create_metrics_app(pipeline.registry, page=page)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://metrics") as viewer:
        sizes = {}
        for path in LOADED:
            async with viewer.stream("GET", path) as answer:
                sizes[path] = len(b"".join([chunk async for chunk in answer.aiter_raw()]))
                assert answer.headers["content-encoding"] == "gzip"
    assert sum(sizes.values()) < 60_000, sizes


class _Noisy(CollectorRegistry):
    """A registry whose counts grow by chance."""

    def __init__(self, registry: CollectorRegistry, chance: Random) -> None:
        super().__init__()
        self._metrics = list(registry.collect())
        self._chance = chance

    def collect(self) -> list[Metric]:
        for metric in self._metrics:
            metric.samples = [
                sample._replace(value=sample.value + self._chance.randrange(5000)) for sample in metric.samples
            ]
        return self._metrics


def test_what_others_wrote_is_what_they_published() -> None:
    hashes = dict(line.split()[::-1] for line in STATIC.joinpath("uplot.sha256").read_text().splitlines())
    assert hashes.keys() == {"uplot.js", "uplot.css", "uplot.LICENSE"}
    for name, digest in hashes.items():
        assert sha256(STATIC.joinpath(name).read_bytes()).hexdigest() == digest
    assert "The MIT License" in STATIC.joinpath("uplot.LICENSE").read_text()


def test_no_file_names_an_address_to_load_from() -> None:
    for name in ("page.html", "page.css", "page.js", "charts.js", "uplot.css"):
        assert not re.findall(r"https?:|//[a-z]+\.|@import|url\(", STATIC.joinpath(name).read_text())
    script = STATIC.joinpath("uplot.js").read_text()
    assert re.findall(r"https?://[^\s)]+", script) == ["https://github.com/leeoniya/uPlot"]  # its first comment


async def test_nothing_that_a_client_or_a_user_wrote_is_on_the_page() -> None:
    """THREATS 46."""
    canary = "canary<script>alert(1)</script>"
    async with FrontDoor() as door:
        page = page_of(door.pipeline)
        async with serving(page, door.pipeline.registry) as listener, http(listener) as viewer:
            await door.http.post("/oauth/register", json=registration_request(client_name=canary))
            await door.authorize(client_id=canary, state=canary, scope=canary)
            await door.http.get("/oauth/authorize", params={"client_id": canary}, headers={"User-Agent": canary})
            await door.http.post("/oauth/token", data={"code": canary, "grant_type": canary})
            page.read()
            text = (await viewer.get("/figures")).text
    assert "canary" not in text
    assert len(orjson.loads(text)["failed"]) >= 3
