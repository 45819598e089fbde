"""Prometheus 2 and 3 have what the front door counted, by a scrape and by a push, from one process and from four."""

import re
import shlex
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.cli.test_cli import free_port
from tests.deployment.test_deployment import prometheus_elsewhere
from tests.docs.pages import block, read
from tests.harness import Samples
from tests.integration.busy_door import busy_door
from tests.integration.collector import collector
from tests.integration.real_parts import Prometheus, prometheus
from tests.integration.test_pull_and_push import OURS, until_the_same
from tests.real_parts import PROMETHEUS_3

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("workers", ["1", "4"])]

PAGE = read("how-to/metrics.md")


async def stored(running: Prometheus, job: str) -> Samples:
    """The newest value of each of our series."""
    found = await running.query(f'{{__name__=~"({"|".join(OURS)}).+", job="{job}"}}')
    return {
        (series["metric"].pop("__name__"), frozenset(series["metric"].items())): float(series["value"][1])
        for series in found
    }


@pytest.mark.real_parts("prometheus", "collector")
async def test_prometheus_2_has_the_same_from_the_front_door_and_from_the_collector(
    tmp_path: Path, workers: str
) -> None:
    """With the configuration of `otel/`."""
    metrics_port = str(free_port())
    async with collector(tmp_path) as receiver:
        pushed = httpx.URL(receiver.metrics).netloc.decode()
        targets = {"app:9464": f"127.0.0.1:{metrics_port}", "collector:8889": pushed}
        async with (
            prometheus_elsewhere(tmp_path, targets) as running,
            busy_door(tmp_path, receiver.otlp, workers, SEED_OAUTH_METRICS_PORT=metrics_port) as server,
        ):
            for job in ("seed-oauth", "seed-oauth-pushed"):
                await until_the_same(server, partial(stored, running, job))


@pytest.mark.real_parts("prometheus 3")
async def test_prometheus_3_has_the_same_from_a_scrape_and_from_its_own_receiver(tmp_path: Path, workers: str) -> None:
    metrics_port = str(free_port())
    (endpoint,) = re.findall(r"METRICS_ENDPOINT=http://127\.0\.0\.1:9090(\S+)", PAGE)
    options = shlex.split(block(PAGE, "prometheus 3"))[2:]
    async with (
        prometheus(tmp_path, f"127.0.0.1:{metrics_port}", "scraped", program=PROMETHEUS_3, options=options) as running,
        busy_door(
            tmp_path,
            running.url,
            workers,
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{running.url}{endpoint}",
            OTEL_TRACES_EXPORTER="none",
            OTEL_SERVICE_NAME="pushed",
            SEED_OAUTH_METRICS_PORT=metrics_port,
        ) as server,
    ):
        for job in ("seed-oauth", "pushed"):
            await until_the_same(server, partial(stored, running, job))
