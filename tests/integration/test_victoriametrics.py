"""VictoriaMetrics receives OTLP without a Collector, and has what a scrape has, with the labels that the rules need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.test_cli import PATIENCE, free_port, serving
from tests.harness import Samples
from tests.integration.busy_door import play, pushing_to, scrape
from tests.integration.collector import OTEL
from tests.integration.login import code_from
from tests.integration.real_parts import eventually, identity_provider, ready, running
from tests.integration.test_pull_and_push import difference
from tests.real_parts import VICTORIAMETRICS

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("victoriametrics")]


@asynccontextmanager
async def victoriametrics(folder: Path) -> AsyncIterator[str]:
    """The URL of a VictoriaMetrics with the relabeling of `otel/`."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(VICTORIAMETRICS),
        f"-httpListenAddr={address}",
        f"-storageDataPath={folder / 'data'}",
        f"-relabelConfig={OTEL / 'victoriametrics-relabel.yaml'}",
        # By default the last 30 s are left out of queries.
        "-search.latencyOffset=0s",
    ]
    log = folder / "victoriametrics.log"
    with running(command, log) as process:
        await ready(f"http://{address}/health", process, log)
        yield f"http://{address}"


async def stored(http: httpx.AsyncClient, url: str) -> Samples:
    """The newest value of each of our series."""
    await http.get(f"{url}/internal/force_flush")
    query = {"query": '{__name__=~"(oauth|seed_oauth|http_client)_.+"}', "nocache": "1"}
    found = (await http.get(f"{url}/api/v1/query", params=query)).json()["data"]["result"]
    return {
        (series["metric"].pop("__name__"), frozenset(series["metric"].items())): float(series["value"][1])
        for series in found
    }


async def test_it_has_the_names_labels_counts_and_buckets_of_a_scrape_with_job_and_instance(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with (
        victoriametrics(tmp_path) as url,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
        identity_provider(tmp_path, port),
    ):
        environment = pushing_to(
            url,
            f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{url}/opentelemetry/v1/metrics",
            OTEL_TRACES_EXPORTER="none",
            OTEL_RESOURCE_ATTRIBUTES="k8s.cluster.name=eu,k8s.namespace.name=mcp,service.instance.id=one",
        )
        async with serving(tmp_path, environment) as server:
            await play(server)
            await code_from(server.http, server.url)
            pull = await scrape(server.http, server.metrics)
            identity = frozenset({"cluster": "eu", "namespace": "mcp", "job": "seed-oauth", "instance": "one"}.items())
            expected = {(name, labels | identity): value for (name, labels), value in pull.items()}

            async def is_the_same() -> bool:
                return not difference(expected, await stored(http, url))

            try:
                await eventually(is_the_same)
            except TimeoutError:
                pytest.fail("\n".join(difference(expected, await stored(http, url))))
            assert any(name.startswith("http_client_") for name, _ in pull)
            assert all(identity <= labels for _, labels in await stored(http, url))
