"""What a scrape shows, whatever was recorded."""

import random
from functools import partial
from importlib.metadata import version

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from seed_oauth import Pipeline, create_metrics_app
from seed_oauth.outcomes import Check, GrantType
from seed_oauth.telemetry.contract import CONTRACT, ENDPOINTS, ExchangeResult, IdpOutcome, Operation
from seed_oauth.telemetry.gauges import GAUGES
from seed_oauth.telemetry.series import Kind
from tests.broker import BrokerDoor
from tests.harness import FrontDoor, RelayDoor, code_request, refresh_request, samples_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


async def test_every_known_label_set_is_there_at_0_from_the_start(door: FrontDoor) -> None:
    samples = await door.samples()
    for series in CONTRACT:
        for labels in series.known:
            if series.kind is Kind.COUNTER:
                assert samples[series.name, frozenset(labels.items())] == 0


async def test_a_scrape_has_the_contracts_names_types_labels_and_help() -> None:
    async with BrokerDoor() as door:
        await door.authorize(client_id="https://app.example/client.json")
        tokens = await door.login()
        await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        door.pipeline.telemetry.record_ready(Check.STORE, True)
        for gauge in GAUGES:
            door.pipeline.observe(gauge, partial(dict, {next(iter(gauge.series.known[0].values()), ""): 1}))
        text = await door.scrape()
    for series in CONTRACT:
        assert f"# TYPE {series.name} {series.kind}\n" in text
        assert f"# HELP {series.name} {series.help}\n" in text
    names = {name: set(dict(labels)) for name, labels in samples_of(text)}
    for series in CONTRACT:
        shown = f"{series.name}_count" if series.buckets else series.name
        assert names[shown] == set(series.labels)


async def test_no_series_of_ours_is_outside_the_contract(door: FrontDoor) -> None:
    await door.token(code_request())
    known = {f"{series.name}{suffix}" for series in CONTRACT for suffix in ("", "_bucket", "_count", "_sum")}
    ours = {name for name, _ in await door.samples() if name.startswith("oauth_")}
    assert ours <= known


async def test_for_each_grant_type_the_exchanges_and_the_histograms_count_are_equal() -> None:
    chance = random.Random(7)  # noqa: S311 - a repeatable mix

    def idp(_: httpx.Request) -> httpx.Response:
        if chance.random() < 0.3:
            raise httpx.ConnectError("refused")
        return httpx.Response(chance.choice([200, 400, 500]), json={"access_token": "at"})

    async with RelayDoor(idp=idp) as door:
        for _ in range(60):
            await door.token(chance.choice([code_request(), refresh_request(), code_request(code="")]))
        for grant_type in GrantType:
            exchanges = [
                await door.value("oauth_token_exchanges_total", grant_type=grant_type, result=result)
                for result in ExchangeResult
            ]
            count = await door.value("oauth_token_exchange_duration_seconds_count", grant_type=grant_type)
            assert sum(exchanges) == count == min(exchanges) + max(exchanges) > 0


async def test_the_instrumentation_of_httpx_measures_in_seconds(door: FrontDoor) -> None:
    await door.token(code_request())
    samples = await door.samples()
    ((labels, count),) = [
        (dict(labels), value)
        for (name, labels), value in samples.items()
        if name == "http_client_request_duration_seconds_count"
    ]
    assert count == 1
    assert labels["http_response_status_code"] == "200"
    assert labels["server_address"] == "idp.example"


async def test_the_process_itself_is_measured(door: FrontDoor) -> None:
    names = {name for name, _ in await door.samples()}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names


async def test_two_pipelines_share_nothing() -> None:
    async with RelayDoor() as one, RelayDoor() as another:
        await one.authorize()
        assert await one.value("oauth_authorization_requests_total", result="success") == 1
        assert await another.value("oauth_authorization_requests_total", result="success") == 0


async def test_successive_scrapes_show_each_sample_once(door: FrontDoor) -> None:
    for number in range(1, 4):
        await door.authorize()
        assert await door.value("oauth_authorization_requests_total", result="success") == number


async def test_a_scrape_does_not_grow_with_the_requests_it_tells_of() -> None:
    pipeline = Pipeline()
    door = RelayDoor(pipeline=pipeline)

    def record_everything(times: int) -> None:
        for _ in range(times):
            for outcomes in ENDPOINTS:
                for outcome in outcomes:
                    pipeline.telemetry.record(outcome, waited=3.0)
            for idp in IdpOutcome:
                for grant_type in GrantType:
                    pipeline.telemetry.record_exchange(grant_type, idp, 0.05)
                for operation in set(Operation) - {Operation.TOKEN}:
                    pipeline.telemetry.record_idp_request(operation, idp, 0.05)

    record_everything(1)
    once = await door.samples()
    record_everything(200)
    assert (await door.samples()).keys() == once.keys()


async def test_an_openmetrics_scraper_gets_openmetrics(door: FrontDoor) -> None:
    app = create_metrics_app(door.pipeline.registry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://metrics") as http:
        response = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        assert response.text.endswith("# EOF\n")
        assert "/metrics" in (await http.get("/")).text
        assert (await http.get("/other")).status_code == 404


@pytest.mark.parametrize(("variable", "name"), [({}, "seed-oauth"), ({"OTEL_SERVICE_NAME": "door"}, "door")])
async def test_the_service_has_a_name_that_the_environment_may_change(
    monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], name: str
) -> None:
    for key, value in variable.items():
        monkeypatch.setenv(key, value)
    target = {name: dict(labels) for name, labels in await RelayDoor().samples()}["target_info"]
    assert (target["service_name"], target["service_version"]) == (name, version("seed-oauth"))
    assert target["service_instance_id"]


def test_a_pipeline_can_be_shut_down() -> None:
    pipeline = Pipeline()
    pipeline.shutdown()
    assert "oauth_authorization_requests_total" not in {metric.name for metric in pipeline.registry.collect()}


async def test_the_trace_goes_on_to_the_identity_provider() -> None:
    spans = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    async with RelayDoor(pipeline=Pipeline(tracer_provider)) as door:
        await door.token(code_request())
    to_idp, from_client = spans.get_finished_spans()
    (sent,) = door.idp_requests
    assert to_idp.context is not None
    assert to_idp.parent == from_client.context
    _, trace_id, span_id, _ = sent.headers["traceparent"].split("-")
    assert (int(trace_id, 16), int(span_id, 16)) == (to_idp.context.trace_id, to_idp.context.span_id)
    assert from_client.name == "POST /oauth/token"
    assert from_client.attributes is not None
    assert "url.query" not in from_client.attributes
    assert sent.headers["authorization"].startswith("Basic ")


async def test_probes_leave_no_span() -> None:
    spans = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    async with RelayDoor(pipeline=Pipeline(tracer_provider)) as door:
        for path in "/healthz", "/readyz", "/.well-known/oauth-authorization-server":
            assert (await door.http.get(path)).status_code == 200
    assert [span.name for span in spans.get_finished_spans()] == ["GET /.well-known/oauth-authorization-server"]


@pytest.mark.parametrize("attributes", [None, "deployment.environment.name=test", "service.instance.id=a%2Cb"])
async def test_a_worker_is_part_of_the_instance_of_its_supervisor(
    monkeypatch: pytest.MonkeyPatch, attributes: str | None
) -> None:
    if attributes is not None:
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)

    async def instance(pipeline: Pipeline) -> dict[str, str]:
        target = {name: dict(labels) for name, labels in await RelayDoor(pipeline=pipeline).samples()}["target_info"]
        return {key: value for key, value in target.items() if key.startswith(("service", "deployment"))}

    supervisor = Pipeline()
    for name, value in supervisor.worker_environment().items():
        monkeypatch.setenv(name, value)
    assert await instance(Pipeline()) == await instance(supervisor)
