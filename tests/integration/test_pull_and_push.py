"""One truth by pull and by push: what a scrape shows is what the real Collector shows."""

import signal
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx
import pytest

from seed_oauth.telemetry.push import push_readers
from tests.cli.test_cli import PATIENCE, Server, free_port, run, serving
from tests.harness import Samples, authorization_request, json_of, samples_of
from tests.http_client.test_transport import listening
from tests.integration.collector import collector
from tests.integration.login import code_from
from tests.integration.real_parts import eventually, identity_provider, idp_settings
from tests.resource_server.test_reverse_proxy import Recorder

pytestmark = pytest.mark.anyio

OURS = ("oauth_", "seed_oauth_", "http_client_")

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


async def scrape(http: httpx.AsyncClient, url: str) -> Samples:
    return samples_of((await http.get(url)).text)


async def play(server: Server) -> None:
    """Requests of every endpoint, good ones and bad ones."""
    url, http = server.url, server.http
    metadata = {"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"}
    client_id = (await http.post(f"{url}/oauth/register", json=metadata)).json()["client_id"]
    await http.post(f"{url}/oauth/register", json={})
    for changes in ({}, {"client_id": "nobody"}, {"code_challenge": "short"}):
        request = {**authorization_request(client_id=client_id, redirect_uri="http://127.0.0.1/callback"), **changes}
        await http.get(f"{url}/oauth/authorize", params=request)
    for grant in ({"grant_type": "refresh_token", "refresh_token": "unknown"}, {"grant_type": "password"}):
        await http.post(f"{url}/oauth/token", data={**grant, "client_id": client_id})
    await http.post(f"{url}/oauth/consent", data={"decision": "approve"})
    await http.get(f"{url}/oauth/callback", params={"state": "made-up"})
    await http.post(f"{url}/oauth/revoke", data={"token": "unknown", "client_id": client_id})


async def login_and_calls(server: Server) -> None:
    """A login from its first 401, and calls at once, each on a connection of its own that any worker may take."""
    headers = {"User-Agent": "claude-code/2.1"}
    for path in ("/mcp", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"):
        await server.http.get(f"{server.url}{path}", headers=headers)
    tokens = json_of(await server.http.post(f"{server.url}/oauth/token", data=await code_from(server.http, server.url)))

    async def call() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            called = await http.get(f"{server.url}/mcp", headers={"Authorization": f"Bearer {tokens['access_token']}"})
            assert called.status_code == 200

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(call)


STEPS = {
    ("challenged", "claude"): 1,
    ("discovered_resource", "claude"): 1,
    ("discovered_server", "claude"): 1,
    ("registered", "other"): 2,
    # Those of `play` that go no further have sent no browser.
    ("requested", "other"): 1,
    ("consented", "other"): 1,
    ("redirected", "other"): 1,
    ("returned", "other"): 1,
    ("exchanged", "other"): 1,
    ("used", "other"): 1,
}


def steps(samples: Samples) -> dict[tuple[str, str], float]:
    """The steps that were counted, by step and family."""
    return {
        (dict(labels)["step"], dict(labels)["client_family"]): value
        for (name, labels), value in samples.items()
        if name == "oauth_flow_steps_total" and value
    }


def pushing_to(receiver: str, idp: str, **more: str) -> Mapping[str, str]:
    return {
        **idp_settings(idp),
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "SEED_OAUTH_LOG_LEVEL": "error",
        **more,
    }


@pytest.mark.real_parts("collector")
@pytest.mark.parametrize("workers", ["1", "2", "4"])
async def test_pull_and_push_show_the_same_names_labels_counts_and_buckets(tmp_path: Path, workers: str) -> None:
    """And the same login of which requests go to any worker: each of its steps once."""
    port = free_port()
    idp = f"http://127.0.0.1:{port}"
    async with (
        collector(tmp_path) as receiver,
        identity_provider(tmp_path, port),
        listening(Recorder()) as mcp_port,
    ):
        more = {"SEED_OAUTH_WORKERS": workers, "SEED_OAUTH_MCP_SERVER": f"http://127.0.0.1:{mcp_port}/mcp"}
        environment = pushing_to(receiver.otlp, idp, SEED_OAUTH_ACCESS_TOKENS="own", **more)
        async with serving(tmp_path, environment) as server:

            async def all_workers_are_up() -> bool:
                samples = await scrape(server.http, server.metrics)
                ups = [value for (name, _), value in samples.items() if name == "seed_oauth_worker_up"]
                return sum(ups) == int(workers)

            await eventually(all_workers_are_up)
            await play(server)
            await login_and_calls(server)
            pull = await scrape(server.http, server.metrics)
            assert steps(pull) == STEPS

            async def is_the_same() -> bool:
                return not difference(pull, await scrape(server.http, receiver.metrics))

            try:
                await eventually(is_the_same)
            except TimeoutError:
                pytest.fail("\n".join(difference(pull, await scrape(server.http, receiver.metrics))))
            assert len(comparable(pull)) > 100


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
