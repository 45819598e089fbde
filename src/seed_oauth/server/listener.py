"""Listening sockets, and the server behind each of them."""

import asyncio
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp

from seed_oauth.http.scope_keys import DRAINING
from seed_oauth.server.connection_limits import Limits
from seed_oauth.server.connections import Connection, Connections
from seed_oauth.server.known_hosts import KnownHosts
from seed_oauth.server.loop_lag import LoopLag
from seed_oauth.server.process_limits import most_connections
from seed_oauth.server.service_manager import passed_socket
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.telemetry import MetricsPage, Pipeline, Recording, create_metrics_app
from seed_oauth.telemetry.gauges import CONNECTIONS, EVENT_LOOP_LAG

DRAIN = 30
"""Seconds that requests in progress have to finish after SIGTERM."""

METRICS_CONNECTIONS = 64
"""Connections of a metrics listener at the same time: a handful of scrapers, with one or two each."""

_BACKLOG = 2048


class Listener(uvicorn.Server):
    """A uvicorn server that shares its event loop with others, and is not stopped by signals."""

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        drain: int = DRAIN,
        limits: Limits | None = None,
        hosts: Collection[str] = (),
        *,
        on_start: Callable[[], object] = lambda: None,
        pipeline: Recording | None = None,
    ) -> None:
        """`drain` is the number of seconds that requests in progress have to finish once it stops.

        `limits` apply to its connections; by default their number depends on the available file descriptors. `hosts`
        are the names that it answers to on loopback, besides addresses and local names. `on_start` is called once it
        accepts connections. `pipeline` records what becomes of connections, and the lag of the event loop.
        """
        limits = limits or Limits(connections=most_connections())
        self.known_hosts = KnownHosts(app, hosts)
        config = uvicorn.Config(
            self.known_hosts,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle),
            timeout_graceful_shutdown=drain,
        )
        super().__init__(config)
        if not drain:
            limits = replace(limits, farewell=0)
        self._lag = LoopLag()
        if pipeline is None:
            self._connections = Connections(limits)
        else:
            self._connections = Connections(limits, pipeline.telemetry.record_refusal)
            pipeline.observe(CONNECTIONS, self._connections.states)
            pipeline.observe(EVENT_LOOP_LAG, self._lag.longest)
        self.server_state = self._connections
        self._listening = listening
        self._on_start = on_start

    @property
    def url(self) -> str:
        """The base URL of this listener."""
        return url_of(self._listening)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not handle signals: the caller does."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until `should_exit` is set."""
        watching = asyncio.create_task(self._connections.watch())
        measuring = asyncio.create_task(self._lag.measure())
        try:
            await self.serve(sockets=[self._listening])
        finally:
            watching.cancel()
            measuring.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        self.lifespan.state[DRAINING] = self._connections.draining
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and let requests in progress finish."""
        self._connections.draining.set()
        await self._accept_backlog()
        await super().shutdown(sockets)

    async def _accept_backlog(self) -> None:
        """Accept the clients that are connected already; the kernel would reset them with the listening socket."""
        made = partial(Connection, self.config, self._connections, self.lifespan.state)
        with suppress(OSError):  # BlockingIOError after the last one
            while True:
                accepted, _ = self._listening.accept()
                accepted.setblocking(False)
                await asyncio.get_running_loop().connect_accepted_socket(made, accepted)


def url_of(listening: socket.socket) -> str:
    """The base URL of the listener at this socket."""
    host, port = listening.getsockname()[:2]
    return base_url(host, port)


def base_url(host: str, port: int) -> str:
    """The base URL of a listener at this address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def public_socket(settings: Settings) -> socket.socket:
    """The listening socket of the front door: that of the service manager, or one at `settings.host`.

    Raises:
        SettingsError: there is none that can be used.
    """
    passed = passed_socket()
    if passed is None:
        return listen(settings.host, settings.port, "PORT")
    refuse_default_issuer(passed)
    return passed


def refuse_default_issuer(listening: socket.socket) -> None:
    """Raise `SettingsError` if the issuer is the default one, but others than this machine reach the socket."""
    host = listening.getsockname()[0]
    # The default issuer, with a random key, is for loopback only; `settings.host` does not say where this socket is.
    if not ip_address(host).is_loopback and "issuer" not in Settings.origins():
        raise SettingsError(
            f"{PREFIX}ISSUER is missing: set it to the public https URL of this server; the socket unit listens on "
            f"{host}, and only a loopback address has a default"
        )


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        SettingsError: the address cannot be used; the message names `setting`, the one to change.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is given.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as failure:
        listening.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({failure.strerror}): set {PREFIX}{setting} to a free port, "
            "or stop the program that uses it"
        ) from None
    listening.setblocking(False)
    return listening


def metrics_listener(settings: Settings, pipeline: Pipeline, listening: socket.socket) -> Listener:
    """The listener for the metrics of a pipeline; its limits keep slow scrapers from using up file descriptors."""
    page = (
        MetricsPage(pipeline.registry, pipeline.failed_logins, title=settings.issuer) if settings.metrics_page else None
    )
    limits = Limits(connections=METRICS_CONNECTIONS)
    return Listener(create_metrics_app(pipeline.registry, page=page), listening, limits=limits)
