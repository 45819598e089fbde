"""What `seed-oauth serve` logs when it starts: where it listens, and what it is connected to."""

import socket

import structlog

from seed_oauth.http import paths
from seed_oauth.server.listener import url_of
from seed_oauth.settings import Settings
from seed_oauth.settings.sources import without_queries
from seed_oauth.settings.store_url import place


def announce(settings: Settings, public: socket.socket, private: socket.socket) -> None:
    """Log one line for each of them."""
    log = structlog.get_logger("seed_oauth")
    log.info("listening", url=url_of(public), metrics_url=f"{url_of(private)}/metrics", workers=settings.workers)
    if settings.metrics_page:
        log.info("page in the browser", url=f"{url_of(private)}/")
    log.info("clients connect to", resources=" ".join(settings.protected_resources), issuer=settings.issuer)
    log.info("store", where=place(settings.store_url))
    idp = without_queries(settings.idp_issuer or settings.idp_authorization_url or "not set")
    if settings.flow == "broker":
        log.info("identity provider", url=idp, register_redirect_uri=paths.url(settings.issuer, paths.CALLBACK))
    else:
        log.info("identity provider", url=idp, register_redirect_uri="that of each client")
    for server in settings.forwarded:
        log.info("MCP server", url=server.url, resource=server.resource)
    if not settings.forwarded:
        log.info("MCP server", url="not set: nothing is forwarded")
