"""Prometheus 3 has what the front door counted, by a scrape, and by OTLP without a Collector."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.test_cli import free_port, serving
from tests.docs.pages import block, read
from tests.harness import Samples
from tests.integration.login import code_from
from tests.integration.real_parts import Prometheus, eventually, identity_provider, prometheus
from tests.integration.test_pull_and_push import difference, play, pushing_to, scrape
from tests.real_parts import PROMETHEUS_3

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("prometheus 3")]

PAGE = read("how-to/metrics.md")


async def stored(running: Prometheus, job: str) -> Samples:
    """The newest value of each of our series."""
    found = await running.query(f'{{__name__=~"(oauth|seed_oauth|http_client)_.+", job="{job}"}}')
    return {
        (series["metric"].pop("__name__"), frozenset(series["metric"].items())): float(series["value"][1])
        for series in found
    }


async def test_a_scrape_and_a_push_give_it_the_same_names_labels_counts_and_buckets(tmp_path: Path) -> None:
    port, metrics_port = free_port(), free_port()
    async with (
        prometheus(
            tmp_path,
            f"127.0.0.1:{metrics_port}",
            "scraped",
            program=PROMETHEUS_3,
            options=shlex.split(block(PAGE, "prometheus 3"))[2:],
        ) as running,
        identity_provider(tmp_path, port),
    ):
        (endpoint,) = re.findall(r"METRICS_ENDPOINT=http://127\.0\.0\.1:9090(\S+)", PAGE)
        environment = pushing_to(
            running.url,
            f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{running.url}{endpoint}",
            OTEL_TRACES_EXPORTER="none",
            OTEL_SERVICE_NAME="pushed",
            SEED_OAUTH_METRICS_PORT=str(metrics_port),
        )
        async with serving(tmp_path, environment) as server:
            await play(server)
            await code_from(server.http, server.url)
            shown = await scrape(server.http, f"http://127.0.0.1:{metrics_port}/metrics")
            for job in ("seed-oauth", "pushed"):

                async def is_the_same(job: str = job) -> bool:
                    return not difference(shown, await stored(running, job))

                try:
                    await eventually(is_the_same)
                except TimeoutError:
                    pytest.fail("\n".join([job, *difference(shown, await stored(running, job))]))
