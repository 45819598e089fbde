"""The page and what it loads: its files, the figures as JSON, and a stream of events that keeps them up to date.

All figures are of this instance, as a scrape has them. They contain no secret and nothing about users, but they are as
private as the metrics.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from time import time
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from seed_oauth.http.answer import NO_STORE
from seed_oauth.http.scope_keys import DRAINING, HALF_CLOSED
from seed_oauth.telemetry.contract import AUTHORIZATION_WAIT, TOKEN_EXCHANGE_DURATION
from seed_oauth.telemetry.failed_logins import FailedLogins
from seed_oauth.telemetry.page import figures
from seed_oauth.telemetry.page.history import COARSE_SPAN, FINE_SPAN, INTERVAL, History
from seed_oauth.telemetry.samples import Samples, sample_values

MOST_VIEWERS = 24
"""Event streams at the same time, well below the connections of a metrics listener. Further viewers poll."""

PERIODS = (FINE_SPAN, 3600.0, COARSE_SPAN)
"""The periods that a viewer can choose from, in seconds."""

HEADERS = {
    # uPlot sets styles through the DOM, which style-src allows; a style attribute in HTML would be refused.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    **NO_STORE,
}

_STATIC = files("seed_oauth.telemetry.page").joinpath("static")
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/uplot.css": ("uplot.css", "text/css"),
    "/uplot.js": ("uplot.js", "text/javascript"),
}


class MetricsPage:
    """Remembers the counters of a registry while it runs, and shows them."""

    def __init__(
        self,
        registry: CollectorRegistry,
        failed_logins: FailedLogins,
        *,
        title: str = "",
        interval: float = INTERVAL,
        clock: Callable[[], float] = time,
    ) -> None:
        """The page of the instance `title`, for example its issuer.

        The registry is read every `interval` seconds; `clock` counts seconds since the epoch.
        """
        self._registry = registry
        self._failed_logins = failed_logins
        self._title = title
        self._interval = interval
        self._clock = clock
        self._at = 0.0
        self._history = History()
        self._samples = Samples()
        self._tick = 0
        self._ticked = asyncio.Event()
        self._encoded: dict[bool, bytes] = {}
        self._viewers = 0

    def routes(self) -> list[Route]:
        """The page at `/`, and what it loads."""
        pages = [Route(path, _File(*file).__call__) for path, file in _FILES.items()]
        return [*pages, Route("/figures", self._figures), Route("/events", self._events)]

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """Read the registry again and again; the lifespan of the app with the routes."""
        self.read()
        reading = asyncio.create_task(self._keep_reading())
        yield
        reading.cancel()

    def read(self) -> None:
        """Read the registry once, and wake the viewers."""
        self._samples = Samples(sample_values(self._registry.collect()))
        # The clock may be set back. A monotonic one stands still while the machine is suspended.
        self._at = max(self._clock(), self._at + min(self._interval, INTERVAL))
        self._history.add(self._samples, self._at)
        self._tick += 1
        self._encoded.clear()
        self._ticked.set()
        self._ticked = asyncio.Event()

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self.read()

    async def _figures(self, _: Request) -> Response:
        return Response(self._encode(whole=True), headers=HEADERS, media_type="application/json")

    async def _events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers=HEADERS, media_type="text/event-stream")
        if self._viewers >= MOST_VIEWERS:
            return PlainTextResponse("too many viewers: poll /figures\n", 503, {**HEADERS, "Retry-After": "60"})
        self._viewers += 1
        draining = request.scope.get("state", {}).get(DRAINING) or asyncio.Event()
        return _EventStream(self._stream(draining), self._leave)

    def _leave(self) -> None:
        self._viewers -= 1

    async def _stream(self, draining: asyncio.Event) -> AsyncIterator[bytes]:
        """One event per reading. There is no queue: who reads slowly misses events, and sees that by their number."""
        yield b"retry: 5000\n\n"
        while True:
            await _any_is_set(self._ticked, draining)
            if draining.is_set():
                return
            yield b"data: %b\n\n" % self._encode(whole=False)

    def _encode(self, *, whole: bool) -> bytes:
        """The figures, with all points of the charts or only the latest; encoded once per reading for all viewers."""
        if whole not in self._encoded:
            self._encoded[whole] = orjson.dumps(self._content(whole=whole))
        return self._encoded[whole]

    def _content(self, *, whole: bool) -> dict[str, Any]:
        now = figures.state(self._samples)
        first = 0 if whole else -1
        return {
            "tick": self._tick,
            "title": self._title,
            "names": figures.POINT,
            "ceilings": {"exchange": TOKEN_EXCHANGE_DURATION.buckets[-1], "wait": AUTHORIZATION_WAIT.buckets[-1]},
            "now": now,
            "periods": [figures.period(*self._history.increase(seconds), now) for seconds in PERIODS],
            "failed": [failed._asdict() for failed in self._failed_logins.latest()],
            "fine": list(self._history.fine_points)[first:],
            "coarse": list(self._history.coarse_points)[first:],
        }


class _EventStream(StreamingResponse):
    def __init__(self, events: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        super().__init__(events, headers=HEADERS, media_type="text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_or_leave() -> Message:
            message = await receive()
            # A browser closes both sides of a connection. Otherwise only the next write would tell that it has left.
            return {"type": "http.disconnect"} if HALF_CLOSED in scope else message

        try:
            await super().__call__(scope, receive_or_leave, send)
        finally:
            self._on_end()
            if HALF_CLOSED in scope:
                scope[HALF_CLOSED]()


class _File:
    def __init__(self, name: str, media_type: str) -> None:
        self._content = _STATIC.joinpath(name).read_bytes()
        self._media_type = media_type

    async def __call__(self, _: Request) -> Response:
        return Response(self._content, headers=HEADERS, media_type=self._media_type)


async def _any_is_set(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
