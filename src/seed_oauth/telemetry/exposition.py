"""The metrics listener: `/metrics`, and a page for people at `/`, on a port of its own."""

from collections.abc import Iterable
from functools import partial

from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from seed_oauth.telemetry.page import MetricsPage


def create_metrics_app(registry: CollectorRegistry, *, page: MetricsPage | None = None) -> Starlette:
    """An ASGI app that serves `registry` at `/metrics`, in the text format that the scraper accepts.

    `page` is served at `/`; it needs the lifespan of this app.
    """

    async def metrics(request: Request) -> Response:
        # Collected on the event loop on purpose: no request is half recorded meanwhile, so related counters agree in a
        # scrape. The text takes longer and is written in a thread, so that requests need not wait for it.
        collected = CollectorRegistry()
        collected.register(_Collected(list(registry.collect())))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(await run_sync(partial(encode, collected)), headers={"Content-Type": content_type})

    return Starlette(
        routes=[Route("/metrics", metrics), *(page.routes() if page else [Route("/", _where_they_are)])],
        lifespan=page.running if page else None,
        middleware=[Middleware(GZipMiddleware, compresslevel=6)],
    )


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


async def _where_they_are(_: Request) -> PlainTextResponse:
    return PlainTextResponse("The metrics are at /metrics\n")
