"""The dashboard is right by push, too: demo → real Collector → real Prometheus → every panel's query."""

from collections.abc import AsyncIterator

import httpx
import pytest

from seed_oauth.cli.demo.environment import open_environment
from seed_oauth.cli.demo.traffic import Traffic, play
from tests.integration.collector import collector
from tests.integration.real_parts import Prometheus, eventually, prometheus
from tests.integration.test_documented_queries import SWITCHED_OFF, EnvironmentTime, panel_queries

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("collector", "prometheus")]

# A Collector is not the process that serves: what is pushed is the contract, not the process.
BY_SCRAPE_ALONE = ("process_",)


@pytest.fixture(scope="module")
async def pushed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """A Prometheus that saw two plays of the demo through a Collector."""
    folder = tmp_path_factory.mktemp("push")
    async with collector(folder) as receiver:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.otlp)
            environment.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
            target = httpx.URL(receiver.metrics).netloc.decode()
            time = EnvironmentTime()
            async with (
                open_environment(0, 0, time.clock, time.now, time.sleep) as demo,
                Traffic(demo) as traffic,
                prometheus(folder, target, instance=None) as server,
            ):
                for _ in range(2):
                    await play(traffic.scenarios(12), at_once=1)
                    await until_seen(server, traffic)
                yield server


async def until_seen(server: Prometheus, traffic: Traffic) -> None:
    """Wait until Prometheus has all exchanges that were made."""
    exchanges = sum(seen for (name, _), seen in traffic.tally.items() if name == "oauth_token_exchanges_total")

    async def has_seen_all() -> bool:
        series = await server.query("sum(oauth_token_exchanges_total)")
        return bool(series) and float(series[0]["value"][1]) == exchanges

    await eventually(has_seen_all)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(query, id=name)
        for name, query in panel_queries().items()
        if not any(name in query for name in (*BY_SCRAPE_ALONE, *SWITCHED_OFF))
    ],
)
async def test_a_panel_of_the_dashboard_has_data_by_push(pushed: Prometheus, query: str) -> None:
    assert await pushed.query(query)


async def test_job_and_instance_are_those_of_the_server(pushed: Prometheus) -> None:
    (series,) = await pushed.query("sum by (job) (oauth_authorization_requests_total)")
    assert series["metric"] == {"job": "seed-oauth"}
    (target,) = await pushed.query("target_info")
    assert target["metric"]["telemetry_sdk_language"] == "python"
