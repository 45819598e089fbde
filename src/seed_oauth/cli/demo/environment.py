"""The servers of the demo, all on loopback: identity provider, MCP server, three front doors, metrics, a web client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from seed_oauth.app import create_app
from seed_oauth.cli.demo.identity_provider import DevelopmentIdentityProvider
from seed_oauth.cli.demo.visit import VisitingClient
from seed_oauth.server.listener import Listener, listen
from seed_oauth.settings import Settings
from seed_oauth.telemetry import MetricsPage, Pipeline, create_metrics_app

_HOST = "127.0.0.1"
_DRAIN = 1  # second; by then the demo's clients have disconnected
_CLIENT_ID = "seed-oauth-demo"
_CLIENT_SECRET = "only for the demo"  # noqa: S105 - valid only for the identity provider of this process


@dataclass(frozen=True)
class Environment:
    """The URLs of the servers."""

    front_door: str
    """It stands in front of the MCP server."""
    unconfigured_door: str
    """A front door without settings for an identity provider."""
    storeless_door: str
    """A front door whose store is unavailable."""
    metrics: str
    """The metrics of all three front doors."""
    page: str
    """The same in the browser."""
    identity_provider: DevelopmentIdentityProvider
    identity_provider_url: str
    visit: str
    """A web client for a login with a real browser."""


@asynccontextmanager
async def open_environment(
    port: int,
    metrics_port: int,
    clock: Callable[[], float] = perf_counter,
    now: Callable[[], float] = time,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> AsyncIterator[Environment]:
    """Start the servers, and stop them at the end. Port 0 picks a free one.

    `clock` measures durations in seconds, `now` returns seconds since the epoch, and the identity provider delays
    responses with `sleep`.

    Raises:
        SettingsError: a port is in use.
    """
    pipeline = Pipeline()
    identity_provider = DevelopmentIdentityProvider(_CLIENT_ID, _CLIENT_SECRET, sleep=sleep)
    async with AsyncExitStack() as stack:
        # Runs last, so that a push includes the final counts.
        stack.callback(pipeline.shutdown)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="seed-oauth-demo-")))
        # The ports are bound first, so that nothing has started if one is in use.
        public = stack.enter_context(listen(_HOST, port, "PORT"))
        private = stack.enter_context(listen(_HOST, metrics_port, "METRICS_PORT"))
        aside = [stack.enter_context(listen(_HOST, 0, "PORT")) for _ in range(5)]

        idp = Listener(identity_provider.app, aside[0], _DRAIN)
        to_idp = {
            "idp_authorization_url": f"{idp.url}/authorize",
            "idp_token_url": f"{idp.url}/token",
            "idp_revocation_url": f"{idp.url}/revoke",
            "idp_jwks_url": f"{idp.url}/jwks",
            "idp_issuer_claim": idp.url,
            "idp_client_id": _CLIENT_ID,
            "idp_client_secret": _CLIENT_SECRET,
        }
        mcp_server = Listener(Starlette(routes=[Route("/mcp", _pong, methods=["POST"])]), aside[4], _DRAIN)
        broken = _without_readiness(pipeline)
        doors = []
        for listening, idp_settings, store, recording in (
            (public, {**to_idp, "mcp_server": f"{mcp_server.url}/mcp"}, folder / "clients.db", pipeline),
            (aside[1], {}, folder / "clients.db", broken),
            # A folder cannot be opened as a database.
            (aside[2], to_idp, folder, broken),
        ):
            issuer = f"http://{_HOST}:{listening.getsockname()[1]}"
            settings = Settings.load(issuer=issuer, flow="broker", store_url=f"sqlite:///{store}", **idp_settings)
            door = create_app(settings, pipeline=recording, now=now, clock=clock)
            doors.append(Listener(door, listening, _DRAIN, pipeline=recording))
        page = MetricsPage(pipeline.registry, pipeline.failed_logins, title=doors[0].url)
        metrics = Listener(create_metrics_app(pipeline.registry, page=page), private, _DRAIN)
        client = Listener(VisitingClient(doors[0].url).app, aside[3], _DRAIN)

        await stack.enter_async_context(_running(idp, mcp_server, *doors, metrics, client))
        yield Environment(
            front_door=doors[0].url,
            unconfigured_door=doors[1].url,
            storeless_door=doors[2].url,
            metrics=f"{metrics.url}/metrics",
            page=f"{metrics.url}/",
            identity_provider=identity_provider,
            identity_provider_url=idp.url,
            visit=client.url,
        )


async def _pong(_: Request) -> Response:
    """An MCP server that answers a ping (MCP, "Ping")."""
    return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": {}})


def _without_readiness(pipeline: Pipeline) -> Pipeline:
    """The pipeline for front doors that are broken on purpose: they must not make the demo look unready."""
    recording = copy(pipeline)
    recording.telemetry = copy(pipeline.telemetry)
    recording.telemetry.record_ready = lambda *_: None  # type: ignore[method-assign]
    return recording


@asynccontextmanager
async def _running(*listeners: Listener) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(listener.run_until_stopped()) for listener in listeners]
    try:
        yield
    finally:
        for listener in listeners:
            listener.should_exit = True
        await asyncio.gather(*tasks)
