"""Scrapes a metrics listener and shows the view, until Ctrl-C."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
import httpx
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live

from seed_oauth.cli.watch.exposition import WatchError, parse
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.view import View, render

MOST_BYTES = 4 * 1024 * 1024
"""Maximum size of a response; the exposition of seed_oauth has about 10 kB."""


class Watcher:
    """Scrapes one metrics listener repeatedly.

    Use it as an async context manager, which closes its connections. `timeout` is the time in seconds for a whole
    response, `clock` is monotonic and returns seconds.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._timeout = timeout
        self._clock = clock
        self._client = httpx.AsyncClient(
            headers={"Accept": "text/plain"},
            timeout=timeout,
            # A proxy could not reach the loopback addresses of this machine.
            mounts=dict.fromkeys(("all://127.0.0.1", "all://[::1]", "all://localhost")),
        )
        self.shown_url = _without_credentials(url)
        """The URL without credentials."""
        self.flow = FlowState()
        """The figures from all scrapes."""
        self.trouble: str | None = None
        """Why the latest scrape failed, if it did."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def poll(self) -> None:
        """Scrape once. A failure sets `trouble`, except for the first scrape.

        Raises:
            WatchError: the first scrape failed.
        """
        try:
            text = await self._fetch()
            self.flow.add(parse(text, source=self.shown_url, taken_at=self._clock()))
        except WatchError as error:
            if self.flow.taken_at is None:
                raise
            age = self._clock() - self.flow.taken_at
            self.trouble = f"{error.problem}. Retrying; the figures are {age:.0f} s old."
        else:
            self.trouble = None

    def view(self, *, title: str | None = None, footer: RenderableType | None = None) -> View:
        """The current view; by default the title is the URL."""
        return render(
            self.flow,
            title=title or f"seed-oauth watch · {self.shown_url}",
            footer=footer,
            trouble=self.trouble,
        )

    async def _fetch(self) -> str:
        try:
            with anyio.fail_after(self._timeout):
                async with self._client.stream("GET", self._url) as response:
                    return await self._body(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise WatchError(f"{self.shown_url} is not an http:// or https:// URL") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise WatchError(f"{self.shown_url} did not respond within {self._timeout:g} s") from error
        except httpx.HTTPError as error:
            raise WatchError(f"{self.shown_url} does not respond ({_cause(error)})") from error

    async def _body(self, response: httpx.Response) -> str:
        if response.status_code != httpx.codes.OK:
            raise WatchError(
                f"{self.shown_url} is not the metrics listener of seed_oauth: "
                f"the response is {response.status_code} {response.reason_phrase}"
            )
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                raise WatchError(
                    f"{self.shown_url} is not the metrics listener of seed_oauth: "
                    f"the response has more than {MOST_BYTES // 1024**2} MiB"
                )
        return body.decode("utf-8", "replace")


async def watch(url: str, *, interval: float = 1.0, console: Console, once: bool = False) -> None:
    """Show the instance whose metrics listener is at `url` until cancelled, with a scrape every `interval` seconds.

    With `once` it scrapes twice, because rates need it, and prints a single view.

    Raises:
        WatchError: the first scrape failed. Later failures are shown instead.
    """
    async with Watcher(url) as watcher:
        await watcher.poll()
        if once:
            await anyio.sleep(interval)
            await watcher.poll()
            console.print(watcher.view())
            return
        with display(console) as show:
            while True:
                show(watcher.view(footer="Ctrl-C to quit"))
                await anyio.sleep(interval)
                await watcher.poll()


@contextmanager
def display(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Yields the function that shows a view: in place on a terminal, otherwise one below the other.

    Afterwards the terminal is restored and the last view printed.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield console.print
    else:
        with _in_place(console) as show:
            yield show


@contextmanager
def _in_place(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    # Drawn on demand only, without a refresh thread.
    live = Live(console=console, screen=True, auto_refresh=False)
    last: RenderableType = ""

    def show(view: RenderableType) -> None:
        nonlocal last
        last = view
        live.update(_Screenful(view), refresh=True)

    try:
        with live:
            yield show
    finally:
        console.print(last)


@dataclass(frozen=True)
class _Screenful:
    """Tells a view how many lines there are: in a `Live` it would only learn the width, and be cut off."""

    view: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.view, options.update(height=console.height))


def _without_credentials(url: str) -> str:
    """The URL without user and password."""
    try:
        return str(httpx.URL(url).copy_with(userinfo=b"")) or "The empty URL"
    except httpx.InvalidURL:
        return "The URL"


def _cause(error: BaseException) -> str:
    """The message of the innermost cause, which is that of the system."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error).rstrip(".") or type(error).__name__
