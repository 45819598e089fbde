"""The metrics listener: `/metrics`, on a port of its own."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def create_metrics_app(registry: CollectorRegistry) -> Starlette:
    """An ASGI app that serves `registry` at `/metrics`, in the text format that the scraper accepts."""

    async def metrics(request: Request) -> Response:
        # On the event loop on purpose: no request is half recorded meanwhile, so related counters agree in a scrape.
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return Starlette(routes=[Route("/metrics", metrics), Route("/", _where_they_are)])


async def _where_they_are(_: Request) -> PlainTextResponse:
    return PlainTextResponse("The metrics are at /metrics\n")
