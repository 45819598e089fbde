"""The scrape of a running server."""

from collections.abc import Iterator
from threading import current_thread

import httpx
import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from seed_oauth import Pipeline, create_metrics_app

pytestmark = pytest.mark.anyio


def scraper(registry: CollectorRegistry) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_metrics_app(registry)), base_url="http://metrics")


async def test_a_scraper_that_accepts_gzip_gets_it() -> None:
    registry = Pipeline().registry
    async with scraper(registry) as http:
        plain = await http.get("/metrics", headers={"Accept-Encoding": "identity"})
        packed = await http.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) * 5 < int(plain.headers["content-length"])
    assert "# TYPE oauth_errors_total counter\n" in plain.text
    assert "# TYPE oauth_errors_total counter\n" in packed.text
    assert "Accept-Encoding" in packed.headers["vary"]


async def test_metrics_are_collected_between_requests_and_written_while_requests_go_on() -> None:
    """So related counters agree, and nobody waits for the text."""
    collected_by, written_by = [], []

    class Watched(list[Sample]):
        def __iter__(self) -> Iterator[Sample]:
            written_by.append(current_thread())
            return super().__iter__()

    class Watching(Collector):
        def collect(self) -> Iterator[Metric]:
            collected_by.append(current_thread())
            metric = Metric("watched", "watched", "gauge")
            metric.samples = Watched([Sample("watched", {}, 1.0)])
            yield metric

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Watching())
    async with scraper(registry) as http:
        assert "watched 1.0\n" in (await http.get("/metrics")).text
    assert collected_by == [current_thread()]
    assert written_by
    assert current_thread() not in written_by
