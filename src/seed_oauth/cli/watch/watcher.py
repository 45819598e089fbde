"""Polls a metrics listener and shows what it says, until Ctrl-C."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio
import httpx
from rich.console import Console, RenderableType
from rich.live import Live

from seed_oauth.cli.watch.exposition import WatchError, parse
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.view import View, render

MOST_BYTES = 4 * 1024 * 1024
"""An exposition is some 10 kB; whatever sends more than this is no metrics listener of ours."""


class Watcher:
    """One metrics listener, asked again and again.

    Use it as an async context manager: it holds connections. `timeout` is the seconds that an answer may
    take as a whole, `clock` tells seconds and only goes forward.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._timeout = timeout
        self._clock = clock
        self._client = httpx.AsyncClient(
            headers={"Accept": "text/plain"},
            timeout=timeout,
            # A proxy has a loopback of its own, on which this instance does not listen.
            mounts=dict.fromkeys(("all://127.0.0.1", "all://[::1]", "all://localhost")),
        )
        self.shown_url = _without_credentials(url)
        """The URL without credentials."""
        self.flow = FlowState()
        """What the answers add up to."""
        self.trouble: str | None = None
        """Why the latest answer is missing, if it is."""

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
        """Ask once. An answer that is missing is `trouble`, unless there was none before.

        Raises:
            WatchError: this was the first time, and there is nothing to watch.
        """
        try:
            text = await self._fetch()
            self.flow.add(parse(text, source=self.shown_url, taken_at=self._clock()))
        except WatchError as error:
            if self.flow.taken_at is None:
                raise
            age = self._clock() - self.flow.taken_at
            self.trouble = f"{error.problem}. Still asking; these figures are {age:.0f} s old."
        else:
            self.trouble = None

    def view(self, *, title: str | None = None, footer: RenderableType | None = None) -> View:
        """What there is to see now; the title is the URL when none is given."""
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
            raise WatchError(f"{self.shown_url} is no http:// or https:// URL") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise WatchError(f"{self.shown_url} did not answer within {self._timeout:g} s") from error
        except httpx.HTTPError as error:
            raise WatchError(f"No answer from {self.shown_url} ({_cause(error)})") from error

    async def _body(self, response: httpx.Response) -> str:
        if response.status_code != httpx.codes.OK:
            raise WatchError(
                f"{self.shown_url} is not the metrics listener of seed_oauth: "
                f"it answered {response.status_code} {response.reason_phrase}"
            )
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                raise WatchError(
                    f"{self.shown_url} is not the metrics listener of seed_oauth: "
                    f"it sent more than {MOST_BYTES // 1024**2} MiB"
                )
        return body.decode("utf-8", "replace")


async def watch(url: str, *, interval: float = 1.0, console: Console, once: bool = False) -> None:
    """Show the instance whose metrics listener is at `url` until cancelled, asking every `interval` seconds.

    With `once` it asks twice, an `interval` apart so that there are rates, and prints a single view.

    Raises:
        WatchError: the first answer is missing or is none of ours. Later on that is shown, not raised.
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
                show(watcher.view(footer="Ctrl-C ends"))
                await anyio.sleep(interval)
                await watcher.poll()


@contextmanager
def display(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Gives the function that shows a view: in place on a terminal, one below the other elsewhere.

    A terminal is left as it was found, with the last view printed.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield console.print
    else:
        with _in_place(console) as show:
            yield show


@contextmanager
def _in_place(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    # Drawn on demand alone: no thread, nothing that goes on when the caller stops.
    live = Live(console=console, screen=True, auto_refresh=False)
    try:
        with live:
            yield lambda view: live.update(view, refresh=True)
    finally:
        console.print(live.renderable)


def _without_credentials(url: str) -> str:
    """What may be shown of a URL."""
    try:
        return str(httpx.URL(url).copy_with(userinfo=b"")) or "An empty text"
    except httpx.InvalidURL:
        return "That"


def _cause(error: BaseException) -> str:
    """What the system said, in its own words rather than the library's."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error).rstrip(".") or type(error).__name__
