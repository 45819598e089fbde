"""Exemplars in a scrape: a bucket leads to the trace of the newest measurement in it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import httpx
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import Span
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from seed_oauth import Pipeline, create_metrics_app
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry.contract import IdpOutcome

pytestmark = pytest.mark.anyio

DURATION = "oauth_token_exchange_duration_seconds_bucket"


@pytest.fixture
def traced() -> Pipeline:
    return Pipeline(TracerProvider())


def trace(sampler: Sampler = ALWAYS_ON) -> AbstractContextManager[Span]:
    """A trace of its own."""
    return TracerProvider(sampler=sampler).get_tracer("test").start_as_current_span("exchange", Context())


def exchange(pipeline: Pipeline, seconds: float, sampler: Sampler = ALWAYS_ON) -> str:
    """Record an exchange in a trace of its own, whose id is returned."""
    with trace(sampler) as span:
        pipeline.telemetry.record_exchange(GrantType.AUTHORIZATION_CODE, IdpOutcome.OK, seconds)
    return f"{span.get_span_context().trace_id:032x}"


async def scraped(pipeline: Pipeline, accept: str = "application/openmetrics-text; version=1.0.0") -> str:
    app = create_metrics_app(pipeline.registry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://metrics") as http:
        return (await http.get("/metrics", headers={"Accept": accept})).text


def with_exemplar(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]  # the parser has no types
        yield from (sample for sample in family.samples if sample.exemplar)


async def traces(pipeline: Pipeline) -> dict[str, str]:
    """The trace of each bucket of the exchanges that has one, by upper bound."""
    return {
        sample.labels["le"]: sample.exemplar.labels["trace_id"]
        for sample in with_exemplar(await scraped(pipeline))
        if sample.name == DURATION and sample.exemplar
    }


async def test_each_bucket_leads_to_the_trace_of_its_newest_measurement(traced: Pipeline) -> None:
    exchange(traced, 0.05)
    at_the_bound, slow, slowest = (exchange(traced, seconds) for seconds in (0.1, 0.7, 9.0))
    assert await traces(traced) == {"0.1": at_the_bound, "1.0": slow, "+Inf": slowest}


async def test_an_exemplar_stays_for_every_scraper_until_there_is_a_newer_one(traced: Pipeline) -> None:
    first = exchange(traced, 0.7)
    assert [await traces(traced) for _ in range(2)] == [{"1.0": first}] * 2
    newer = exchange(traced, 0.8)
    assert await traces(traced) == {"1.0": newer}


async def test_the_value_and_the_time_are_those_of_the_measurement(traced: Pipeline) -> None:
    exchange(traced, 0.7)
    (sample,) = (one for one in with_exemplar(await scraped(traced)) if one.name == DURATION)
    assert sample.exemplar
    assert sample.exemplar.value == 0.7
    assert sample.exemplar.timestamp
    assert len(sample.exemplar.labels["span_id"]) == 16


async def test_operations_of_the_mcp_server_with_and_without_a_tool_have_exemplars(traced: Pipeline) -> None:
    operations = traced.mcp_operations()
    with trace():
        operations.record(0.2, "tools/call", "add", None, "2025-11-25")
        operations.record(0.4, "ping", None, None, "2025-11-25")
    found = {(sample.labels["mcp_method_name"], sample.labels["le"]) for sample in with_exemplar(await scraped(traced))}
    assert found == {("tools/call", "0.2"), ("ping", "0.5")}


async def test_the_text_format_has_no_exemplars(traced: Pipeline) -> None:
    trace_id = exchange(traced, 0.7)
    text = await scraped(traced, accept="text/plain")
    assert f'{DURATION}{{grant_type="authorization_code",le="1.0"}} 1.0\n' in text
    assert trace_id not in text


async def test_a_trace_that_is_not_sampled_is_no_exemplar(traced: Pipeline) -> None:
    exchange(traced, 0.7, ALWAYS_OFF)
    assert await traces(traced) == {}


async def test_a_measurement_without_a_trace_is_no_exemplar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")
    pipeline = Pipeline()
    pipeline.telemetry.record_exchange(GrantType.AUTHORIZATION_CODE, IdpOutcome.OK, 0.7)
    assert list(with_exemplar(await scraped(pipeline))) == []
