"""One truth by pull and by push: what a scrape shows is what the real Collector shows."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from seed_oauth.telemetry.push import push_readers
from tests.cli.test_cli import PATIENCE, Server, free_port, run, serving
from tests.harness import Samples, samples_of
from tests.integration.busy_door import OPERATIONS, STEPS, busy_door, operations, play, pushing_to, scrape, steps
from tests.integration.collector import collector
from tests.integration.real_parts import eventually, identity_provider

pytestmark = pytest.mark.anyio

OURS = ("oauth_", "seed_oauth_", "http_client_", "mcp_server_")

MOVING = {
    "seed_oauth_connections",
    "seed_oauth_event_loop_lag_seconds",
    "seed_oauth_registered_clients",
    "seed_oauth_store_check_seconds",
}
"""Gauges that no two scrapes need to show alike."""

Comparable = dict[tuple[str, frozenset[tuple[str, str]]], float]


def comparable(samples: Samples) -> Comparable:
    """Our samples, without who was asked and with bucket bounds as numbers: 1.0 and 1 are the same one."""
    found: Comparable = {}
    for (name, labels), value in samples.items():
        if name.startswith(OURS):
            # For Prometheus a label that is empty is a label that is not there.
            kept = {label: content for label, content in labels if content and label not in {"job", "instance"}}
            if "le" in kept:
                kept["le"] = str(float(kept["le"]))
            found[name, frozenset(kept.items())] = 0 if name in MOVING else value
    return found


def difference(pull: Samples, push: Samples) -> list[str]:
    """What one side has and the other has not, or has with another value."""
    one, other = comparable(pull), comparable(push)
    return sorted(
        f"{name}{dict(sorted(labels))}: pull {one.get((name, labels))}, push {other.get((name, labels))}"
        for name, labels in one.keys() | other.keys()
        if one.get((name, labels)) != pytest.approx(other.get((name, labels)))
    )


async def until_the_same(server: Server, received: Callable[[], Awaitable[Samples]]) -> None:
    """Wait until what was received is what the front door shows; fail with what differs."""

    async def differing() -> list[str]:
        return difference(await scrape(server.http, server.metrics), await received())

    async def is_the_same() -> bool:
        return not await differing()

    try:
        await eventually(is_the_same)
    except TimeoutError:
        pytest.fail("\n".join(await differing()))


@pytest.mark.real_parts("collector")
@pytest.mark.parametrize("workers", ["1", "2", "4"])
async def test_pull_and_push_show_the_same_names_labels_counts_and_buckets(tmp_path: Path, workers: str) -> None:
    """And the same login of which requests go to any worker: each of its steps once."""
    async with collector(tmp_path) as receiver, busy_door(tmp_path, receiver.otlp, workers) as server:
        shown = await scrape(server.http, server.metrics)
        assert len(comparable(shown)) > 100
        assert steps(shown) == STEPS
        assert operations(shown) == OPERATIONS
        await until_the_same(server, lambda: scrape(server.http, receiver.metrics))


def test_a_difference_in_name_label_value_or_bucket_is_found() -> None:
    text = (
        'oauth_a_total{result="success"} 1.0\n'
        'oauth_h_seconds_bucket{le="0.5"} 1.0\noauth_h_seconds_bucket{le="1.0"} 2.0\n'
    )
    pull = samples_of(text)
    assert difference(pull, samples_of(text.replace('"1.0"', '"1"').replace('result="', 'job="x",result="'))) == []
    for before, after in (
        ("oauth_a_total", "oauth_a"),
        ("result", "outcome"),
        ("success", "Success"),
        ('0.5"', '0.25"'),
        ("1.0\n", "3.0\n"),
        ('oauth_h_seconds_bucket{le="1.0"} 2.0\n', ""),
    ):
        assert difference(pull, samples_of(text.replace(before, after))), (before, after)


@pytest.mark.real_parts("collector")
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sigterm_delivers_the_last_count(tmp_path: Path, workers: str) -> None:
    port = free_port()
    idp = f"http://127.0.0.1:{port}"
    async with collector(tmp_path) as receiver, identity_provider(tmp_path, port):
        environment = pushing_to(receiver.otlp, idp, OTEL_METRIC_EXPORT_INTERVAL="3600000", SEED_OAUTH_WORKERS=workers)
        async with serving(tmp_path, environment) as server:
            await play(server)
            await server.stop()
            assert server.process.returncode == 0

            async def has_arrived() -> bool:
                samples = comparable(await scrape(server.http, receiver.metrics))
                return samples.get(("oauth_dcr_registrations_total", frozenset({("result", "invalid")}))) == 1

            await eventually(has_arrived)


async def test_a_collector_that_is_gone_costs_no_request_and_is_told(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with serving(tmp_path, pushing_to(nobody, "http://127.0.0.1:1")) as server:
        assert server.process.stdout is not None
        with anyio.fail_after(PATIENCE):
            while b"encountered while exporting metrics" not in await server.process.stdout.readline():
                pass
        await play(server)
        assert len(await scrape(server.http, server.metrics)) > 100
        await server.stop()
        assert server.process.returncode == 0


@pytest.mark.real_parts("collector")
async def test_a_collector_that_stands_still_does_not_hold_up_a_request_or_a_scrape(tmp_path: Path) -> None:
    async with collector(tmp_path) as receiver:
        receiver.process.send_signal(signal.SIGSTOP)
        # A push waits for longer than anybody has patience, so a request that is answered has not waited for one.
        environment = pushing_to(receiver.otlp, "http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT=str(10 * PATIENCE))
        async with serving(tmp_path, environment) as server:
            for _ in range(5):
                assert (await server.http.post(f"{server.url}/oauth/register", json={})).status_code == 400
                await scrape(server.http, server.metrics)


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "write http://host:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://[::1", "write http://host:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be http/protobuf"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_told_before_any_port_opens(
    tmp_path: Path, variable: str, value: str, remedy: str
) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", variable: value}
    done = run("serve", "--port", "0", "--metrics-port", "0", folder=tmp_path, environment=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"seed-oauth: {variable}")
    assert remedy in done.stderr


def test_nothing_is_pushed_unless_it_is_asked_for() -> None:
    assert push_readers() == []
