"""The OpenTelemetry Collector of `otel/`: how it is found and started."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.cli.test_cli import free_port
from tests.integration.real_parts import eventually
from tests.real_parts import COLLECTOR

OTEL = Path(__file__).parents[2] / "otel"
_KEEPING = """
exporters:
  file:
    path: {path}
    flush_interval: 50ms
service:
  pipelines:
    metrics:
      exporters: [prometheus, file]
    traces:
      exporters: [file]
"""


@dataclass(frozen=True)
class Collector:
    """A Collector that runs."""

    otlp: str
    """Where it takes OTLP/HTTP."""
    metrics: str
    """Where it shows Prometheus what it was sent."""
    received: Path
    """A file with all it was sent, as OTLP JSON, a line each."""
    process: subprocess.Popen[bytes]


@asynccontextmanager
async def collector(folder: Path) -> AsyncIterator[Collector]:
    """A Collector with the configuration of `otel/`, on ports that are free, that also keeps what it was sent."""
    received = folder / "received.jsonl"
    keeping = folder / "keeping.yaml"
    keeping.write_text(_KEEPING.format(path=received))
    otlp, metrics, health, own = (free_port() for _ in range(4))
    environment = {
        **os.environ,
        "COLLECTOR_OTLP_HTTP": f"127.0.0.1:{otlp}",
        "COLLECTOR_PROMETHEUS": f"127.0.0.1:{metrics}",
        "COLLECTOR_HEALTH": f"127.0.0.1:{health}",
        "COLLECTOR_OWN_METRICS_PORT": str(own),
        "COLLECTOR_BATCH_TIMEOUT": "100ms",
    }
    log = folder / "collector.log"
    command = [str(COLLECTOR), "--config", str(OTEL / "collector.yaml"), "--config", str(keeping)]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,  # noqa: S603 - built from this repository's manifest
        httpx.Client(trust_env=False) as http,
    ):

        async def is_healthy() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return http.get(f"http://127.0.0.1:{health}/").is_success
            except httpx.TransportError:
                return False

        try:
            await eventually(is_healthy)
            yield Collector(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{metrics}/metrics", received, process)
        finally:
            process.kill()
