"""The metrics listener: `/metrics` and nothing else, on a port that is not the public one."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def create_metrics_app(registry: CollectorRegistry) -> Starlette:
    """An ASGI app that answers a scrape of `registry`, in the text format that the scraper asks for."""

    async def metrics(request: Request) -> Response:
        # On the event loop, on purpose: no request is half recorded while it runs, so counters that
        # belong together agree in every scrape.
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return Starlette(routes=[Route("/metrics", metrics), Route("/", _where_they_are)])


async def _where_they_are(_: Request) -> PlainTextResponse:
    return PlainTextResponse("The metrics are at /metrics\n")
