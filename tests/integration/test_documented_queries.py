"""Every query that is documented or drawn is run: the demo's traffic before a real Prometheus.

`UPDATE_DOCS=1` writes the outputs in the documents anew instead of comparing them.
"""

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import time as now

import httpx
import pytest

from seed_oauth.cli.demo.environment import open_environment
from seed_oauth.cli.demo.traffic import Traffic, play
from seed_oauth.telemetry.contract import CONTRACT
from tests.integration.real_parts import Prometheus, prometheus

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
QUERIES = ROOT / "docs" / "reference" / "queries.md"
DOCUMENTS = (QUERIES, ROOT / "README.md")
DASHBOARD = ROOT / "grafana" / "seed-mcp-server-dashboard.json"

# A query and, directly under it, its output.
EXAMPLE = re.compile(r"^```promql\n(.*?)^```\n(?:```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
PROMTOOL_LINE = re.compile(r"(.*) => (\S+) @\[[\d.]+\]")

LOGINS = 40


class EnvironmentTime:
    """Time that passes only while the identity provider dawdles: durations are part of the outputs."""

    def __init__(self) -> None:
        self._begun = now()
        self._passed = 0.0

    def clock(self) -> float:
        return self._passed

    def now(self) -> float:
        return self._begun + self._passed

    async def sleep(self, seconds: float) -> None:
        self._passed += seconds


@dataclass(frozen=True)
class Played:
    """What is left of a play: a Prometheus that saw it, and the Unix time at which it had seen all of it."""

    prometheus: Prometheus
    at: str


@pytest.fixture(scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    """The demo's plan, played once before Prometheus looks, because a histogram has no 0, and then again."""
    time = EnvironmentTime()
    async with open_environment(0, 0, time.clock, time.now, time.sleep) as demo, Traffic(demo) as traffic:
        # One scene after the other: they have one clock.
        await play(traffic.scenarios(LOGINS), at_once=1)
        folder = tmp_path_factory.mktemp("prometheus")
        async with prometheus(folder, httpx.URL(demo.metrics).netloc.decode(), "localhost:9464") as server:
            await server.scrape_after(now())
            await play(traffic.scenarios(LOGINS), at_once=1)
            at = await server.scrape_after(now())
            assert await counted(server, at, traffic) == traffic.tally
            yield Played(server, at)


async def counted(server: Prometheus, at: str, traffic: Traffic) -> dict[tuple[str, tuple[str, ...]], int]:
    """What Prometheus has of everything that the clients kept a tally of."""
    labels = {series.name + suffix: series.labels for series in CONTRACT for suffix in ("", "_count")}
    return {
        (name, values): int(series["value"][1])
        for name in {name for name, _ in traffic.tally}
        for series in await server.query(f"{name} > 0", at)
        for values in [tuple(series["metric"][label] for label in labels[name])]
    }


def output(promtool: str, played: Played, query: str) -> str:
    """What `promtool query instant` prints, ordered by labels, without the time, to three significant digits."""
    command = [promtool, "query", "instant", f"--time={played.at}", played.prometheus.url, query]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a query of our documents
    assert run.returncode == 0, f"{query}\n{run.stderr}"
    series = [PROMTOOL_LINE.fullmatch(line) for line in run.stdout.splitlines()]
    assert series, f"no output: {query}"
    assert all(series), run.stdout
    return "".join(sorted(f"{labels} => {float(value):.3g}\n" for labels, value in (s.groups() for s in series if s)))


@pytest.mark.real_parts("prometheus")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
async def test_every_documented_query_gives_the_output_under_it(promtool: str, played: Played, document: Path) -> None:
    def with_output(example: re.Match[str]) -> str:
        return f"```promql\n{example[1]}```\n```text\n{output(promtool, played, example[1])}```\n"

    text = document.read_text(encoding="utf-8")
    reproduced, examples = EXAMPLE.subn(with_output, text)
    assert examples
    if os.environ.get("UPDATE_DOCS"):
        document.write_text(reproduced, encoding="utf-8")
    else:
        assert text == reproduced, "an output is not what Prometheus says: UPDATE_DOCS=1 writes them anew"


def test_every_series_in_the_documented_queries_is_in_the_contract() -> None:
    exposed = {
        series.name + suffix
        for series in CONTRACT
        for suffix in (("_bucket", "_sum", "_count") if series.buckets else ("",))
    }
    named = set(re.findall(r"\boauth_\w+", QUERIES.read_text(encoding="utf-8")))
    assert named
    assert named - {"oauth_"} <= exposed


def panel_queries() -> dict[str, str]:
    """Every query of the dashboard as Grafana sends it with all jobs and instances chosen, by panel."""
    variables = {
        "$cluster": ".*",
        "$namespace": ".*",
        "$job": ".*",
        "$instance": ".*",
        "$__rate_interval": "1m",
        "$__range": "1m",
        "$__interval": "15s",
    }
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return {
        f"{panel['id']}{target['refId']} {panel['title']}": re.sub(
            r"\$\w+", lambda variable: variables[variable[0]], target["expr"]
        )
        for panel in panels
        for target in panel.get("targets", [])
    }


SWITCHED_OFF = ("mcp_server_operation_",)
"""Series that the demo has not: MCP_METRICS is off."""


@pytest.mark.real_parts("prometheus")
@pytest.mark.parametrize(
    "query",
    [
        pytest.param(query, id=name)
        for name, query in panel_queries().items()
        if not any(series in query for series in SWITCHED_OFF)
    ],
)
async def test_a_panel_of_the_dashboard_has_data(played: Played, query: str) -> None:
    series = await played.prometheus.query(query, played.at)
    assert series
    assert all(isfinite(float(one["value"][1])) for one in series), series
