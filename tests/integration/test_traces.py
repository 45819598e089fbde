"""Traces on the real Collector: a login is one trace up to its first use, a slow exchange leads from its bucket to it,
and no span tells a secret."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from typer.testing import CliRunner

from seed_oauth.cli.demo.browser import Browser
from seed_oauth.cli.main import app
from seed_oauth.flows.transaction import code_challenge
from tests.cli.test_cli import Server, free_port, serving
from tests.deployment.test_deployment import prometheus_elsewhere
from tests.harness import code_request, json_of, query_of
from tests.integration.collector import Collector, collector
from tests.integration.login import client_id_from, onward, sent_to_idp
from tests.integration.real_parts import Prometheus, eventually
from tests.integration.test_documented_queries import panel_queries
from tests.resource_server.test_measured import call
from tests.telemetry.test_mcp_spans import SPAN_OF_THE_STRANGER, meta
from tests.telemetry.test_one_trace import OF_THE_STRANGER, STEPS

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("collector")]

CANARIES = {name: f"canary-{name}-{'x' * 43}" for name in ("code", "state", "verifier", "token", "secret", "argument")}
SLOW = "slow"
_CLIENT = 3
"""The kind of a span, in OTLP."""


@asynccontextmanager
async def idp_that_repeats_everything() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An identity provider, and an MCP server, that answers with secrets, and notes what it was sent."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            body = await reader.readexactly(int(length.split(b":")[1]))
            requests.append(head + body)
            if SLOW.encode() in body:
                await asyncio.sleep(0.6)
            tokens = json.dumps({"access_token": CANARIES["token"], "refresh_token": CANARIES["token"]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(tokens), tokens))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    server.close()


def received(receiver: Collector) -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in receiver.received.read_text().splitlines()] if receiver.received.exists() else []
    )


def everything_under(name: str, node: object) -> Iterator[Any]:
    """Whatever stands under a key, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield from value if isinstance(value, list) else [value]
            yield from everything_under(name, value)
    elif isinstance(node, list):
        for item in node:
            yield from everything_under(name, item)


async def come_back(door: str, client_id: str, idp_code: str) -> dict[str, str]:
    """Log in at the identity provider, which would give this code; the secrets of ours that are under way."""
    challenge = code_challenge(CANARIES["verifier"])
    async with Browser() as browser:
        request = {"client_id": client_id, "state": CANARIES["state"], "code_challenge": challenge}
        state = query_of(await sent_to_idp(browser, door, **request))["state"]
        answer = urlencode({"code": idp_code, "state": state})
        returned = await browser.open(f"{door}/oauth/callback?{answer}")
    (_, cookie) = returned.request.headers["cookie"].split("=", 1)
    return {"state of ours": state, "cookie of ours": cookie, "code of ours": query_of(onward(returned))["code"]}


async def slow_login(server: Server) -> dict[str, str]:
    """A login like any other, and one whose exchange is slow, each used once; the secrets that were under way."""
    secrets = {**CANARIES}
    client_id = await client_id_from(server.http, server.url)
    for idp_code in (CANARIES["code"], SLOW):
        secrets |= await come_back(server.url, client_id, idp_code)
        form = {"client_id": client_id, "code": secrets["code of ours"], "code_verifier": CANARIES["verifier"]}
        exchanged = await server.http.post(f"{server.url}/oauth/token", data=code_request(**form))
        tokens = json_of(exchanged)
        secrets |= {"access token of ours": tokens["access_token"], "refresh token of ours": tokens["refresh_token"]}
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        called = await server.http.post(f"{server.url}/mcp", json=call(CANARIES["argument"]), headers=bearer)
        assert CANARIES["token"] in called.text
    return secrets


def tracing_to(receiver: Collector, idp: str, **more: str) -> dict[str, str]:
    """The environment of a front door that pushes soon."""
    return {
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{idp}/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": f"{idp}/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
        "SEED_OAUTH_IDP_CLIENT_SECRET": CANARIES["secret"],
        "SEED_OAUTH_ACCESS_TOKENS": "own",
        "SEED_OAUTH_MCP_SERVER": f"{idp}/mcp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **more,
    }


async def spans_of(trace_id: str, receiver: Collector) -> dict[str, Any]:
    """The spans of a login with this trace, by their name in `STEPS`, as soon as all have arrived."""

    async def all_of_them() -> list[Any]:
        spans = [span for span in everything_under("spans", received(receiver)) if span["traceId"] == trace_id]
        return spans if len(spans) >= len(STEPS) else []

    spans = await eventually(all_of_them)
    named = {name_of(span): span for span in spans}
    assert len(named) == len(spans)
    return named


def name_of(span: Any) -> str:
    if span["kind"] != _CLIENT:
        return str(span["name"])
    (url,) = (attribute["value"]["stringValue"] for attribute in span["attributes"] if attribute["key"] == "url.full")
    return f"{span['name']} {'to the MCP server' if url.endswith('/mcp') else 'of the exchange'}"


def parents(spans: dict[str, Any]) -> dict[str, str | None]:
    """The parent of each span, by name; None of the first."""
    names = {span["spanId"]: name for name, span in spans.items()}
    return {name: names[parent] if (parent := span.get("parentSpanId")) else None for name, span in spans.items()}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_login_is_one_trace_that_a_slow_exchange_leads_to_and_that_tells_no_secret(
    tmp_path: Path, workers: str
) -> None:
    async with collector(tmp_path) as receiver, idp_that_repeats_everything() as (idp, requests):
        environment = tracing_to(receiver, idp, SEED_OAUTH_WORKERS=workers)
        async with serving(tmp_path, environment) as server:
            secrets = await slow_login(server)

            async def exemplars() -> list[Any]:
                found = [
                    exemplar
                    for metric in everything_under("metrics", received(receiver))
                    if metric["name"] == "oauth_token_exchange_duration_seconds"
                    for exemplar in everything_under("exemplars", metric)
                ]
                return [exemplar for exemplar in found if exemplar["asDouble"] > 0.5]

            slow = (await eventually(exemplars))[0]
            await server.stop()

        spans = await spans_of(slow["traceId"], receiver)
        assert parents(spans) == STEPS
        assert spans["GET /oauth/callback"]["spanId"] == slow["spanId"]
        (asked,) = [request for request in requests if SLOW.encode() in request]
        assert f"traceparent: 00-{slow['traceId']}-{spans['POST of the exchange']['spanId']}-".encode() in asked

        instances = {
            attribute["value"]["stringValue"]
            for resource in everything_under("resource", received(receiver))
            for attribute in resource["attributes"]
            if attribute["key"] == "service.instance.id"
        }
        assert len(instances) == 1  # the workers' spans and the supervisor's metrics

        text = receiver.received.read_text()
        assert "/oauth/authorize" in text
        for name, canary in secrets.items():
            assert canary not in text, name


async def test_an_operation_is_in_the_trace_of_its_client_and_tells_no_secret(tmp_path: Path) -> None:
    async with collector(tmp_path) as receiver, idp_that_repeats_everything() as (idp, _):
        more = {"SEED_OAUTH_MCP_METRICS": "on", "SEED_OAUTH_MCP_TOOLS": "search", "SEED_OAUTH_WORKERS": "2"}
        async with serving(tmp_path, tracing_to(receiver, idp, **more)) as server:
            secrets = await slow_login(server)
            bearer = {"Authorization": f"Bearer {secrets['access token of ours']}"}
            await server.http.post(f"{server.url}/mcp", json=meta(), headers=bearer)

            async def operations() -> dict[str, Any]:
                spans = list(everything_under("spans", received(receiver)))
                named = {span["name"]: span for span in spans if span["name"].startswith("tools/call")}
                requests = {span["spanId"] for span in spans if span["name"] == "POST /mcp"}
                return named if len(named) == 2 and len(requests) == 3 else {}

            named = await eventually(operations)
            await server.stop()
        ours = named["tools/call search"]
        assert (ours["traceId"], ours["parentSpanId"]) == (f"{OF_THE_STRANGER:032x}", f"{SPAN_OF_THE_STRANGER:016x}")
        requests = [span for span in everything_under("spans", received(receiver)) if span["name"] == "POST /mcp"]
        assert ours["links"][0]["spanId"] in {request["spanId"] for request in requests}
        assert named["tools/call"]["parentSpanId"] in {request["spanId"] for request in requests}
        text = receiver.received.read_text()
        for name, canary in secrets.items():
            assert canary not in text, name


async def slow_exemplars(server: Prometheus, job: str) -> list[str]:
    """The traces that the panel of the exchange duration leads to from above half a second, with a job chosen."""
    query = panel_queries()["303C Exchange duration by grant"].replace('job=~".*"', f'job="{job}"')
    return [
        exemplar["labels"]["trace_id"]
        for series in await server.exemplars(query)
        for exemplar in series["exemplars"]
        if float(exemplar["value"]) > 0.5
    ]


@pytest.mark.real_parts("prometheus")
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_panel_leads_from_the_slow_bucket_to_the_trace_and_on_to_the_log(
    tmp_path: Path, workers: str
) -> None:
    """By pull and by push, with the configuration of `otel/` and the switches of `compose.yaml`."""
    async with collector(tmp_path) as receiver, idp_that_repeats_everything() as (idp, _):
        metrics_port = str(free_port())
        more = {"SEED_OAUTH_WORKERS": workers, "SEED_OAUTH_METRICS_PORT": metrics_port}
        # The Collector shows an exemplar until the next push, so that Prometheus has to come in between.
        environment = tracing_to(receiver, idp, OTEL_METRIC_EXPORT_INTERVAL="4000", **more)
        pushed = httpx.URL(receiver.metrics).netloc.decode()
        targets = {"app:9464": f"127.0.0.1:{metrics_port}", "collector:8889": pushed}
        async with prometheus_elsewhere(tmp_path, targets) as server, serving(tmp_path, environment) as door:
            await slow_login(door)
            by_pull, by_push = [
                await eventually(partial(slow_exemplars, server, job)) for job in ("seed-oauth", "seed-oauth-pushed")
            ]
            log = await door.stop()
        assert len({*by_pull, *by_push}) == 1
        (trace_id,) = {*by_pull}
        assert parents(await spans_of(trace_id, receiver)) == STEPS

    lines = [json.loads(line) for line in log.splitlines()]
    traced = [line for line in lines if line.get("trace_id") == trace_id]
    assert [line["outcome"] for line in traced] == ["consent_asked", "approved", "returned", "exchanged", "allowed"]
    told = CliRunner().invoke(app, ["explain", "--json", trace_id], input=log)
    assert json.loads(told.stdout)["flow_id"] == traced[0]["flow_id"]
