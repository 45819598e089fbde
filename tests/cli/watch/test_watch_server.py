"""Watching real servers on loopback: responsive, unreachable, recovering, and others."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
import uvicorn
from anyio.abc import SocketAttribute, SocketStream
from prometheus_client import CollectorRegistry, Counter, generate_latest
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from seed_oauth.cli.watch import Watcher, WatchError, watch
from seed_oauth.telemetry.contract import AUTHORIZATION_REQUESTS
from tests.cli.test_cli import PATIENCE, free_port

pytestmark = pytest.mark.anyio

Handler = Callable[[Request], Awaitable[Response]]

ENTER_ALTERNATE_SCREEN, LEAVE_ALTERNATE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


class Listener:
    """A metrics listener whose counter increases by ten with each scrape."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counter = Counter(
            AUTHORIZATION_REQUESTS.name,
            AUTHORIZATION_REQUESTS.help,
            AUTHORIZATION_REQUESTS.labels,
            registry=self._registry,
        )
        self.asked = 0
        self.asked_three_times = anyio.Event()

    async def answer(self, _request: Request) -> Response:
        self.asked += 1
        if self.asked == 3:
            self.asked_three_times.set()
        self._counter.labels("success").inc(10)
        return PlainTextResponse(generate_latest(self._registry))


@asynccontextmanager
async def serving(handler: Handler, port: int | None = None) -> AsyncIterator[int]:
    port = free_port() if port is None else port
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(Starlette(routes=[Route("/metrics", handler)]), log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield port
    finally:
        server.should_exit = True
        await running


async def watch_three_answers(listener: Listener, port: int, console: Console) -> None:
    """Watch until the third scrape, then cancel as Ctrl-C does."""
    watching = asyncio.create_task(watch(url_of(port), interval=0.01, console=console))
    with anyio.fail_after(PATIENCE):
        await listener.asked_three_times.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


def plain_console() -> Console:
    return Console(width=80, file=io.StringIO())


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_once_prints_a_single_view_with_rates() -> None:
    console = plain_console()
    async with serving(Listener().answer) as port:
        await watch(url_of(port), interval=0.01, console=console, once=True)
    assert printed(console).count("Authorization  100 % success") == 1
    assert f"seed-oauth watch · http://127.0.0.1:{port}/metrics" in printed(console)
    assert "    20 │" in printed(console)
    assert "\x1b" not in printed(console)


async def test_without_a_terminal_plain_views_are_printed_until_cancelled() -> None:
    console, listener = plain_console(), Listener()
    async with serving(listener.answer) as port:
        await watch_three_answers(listener, port, console)
    assert printed(console).count("Authorization") >= 2
    assert "\x1b" not in printed(console)


async def test_a_terminal_is_updated_in_place_and_keeps_the_last_view() -> None:
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    listener = Listener()
    async with serving(listener.answer) as port:
        await watch_three_answers(listener, port, console)
    before, _, drawn = printed(console).partition(ENTER_ALTERNATE_SCREEN)
    in_place, _, left = drawn.partition(LEAVE_ALTERNATE_SCREEN)
    assert before == ""
    assert "Authorization" in in_place
    assert left.count("Authorization") == 1
    assert ENTER_ALTERNATE_SCREEN not in left


async def test_an_unreachable_listener_is_shown_and_recovers() -> None:
    listener = Listener()
    async with serving(listener.answer) as port:
        watcher = Watcher(url_of(port))
        await watcher.poll()
        await watcher.poll()
    async with watcher:
        await watcher.poll()
        assert watcher.trouble is not None
        assert watcher.trouble.startswith(f"{url_of(port)} does not respond (Connection refused). Retrying")
        console = plain_console()
        console.print(watcher.view())
        assert "✖ no response" in printed(console)
        assert "    20 │" in printed(console)

        async with serving(listener.answer, port):
            await watcher.poll()
        console = plain_console()
        console.print(watcher.view())
        assert "● live" in printed(console)
        assert watcher.flow.since_start.total(AUTHORIZATION_REQUESTS.name) == 30


async def test_a_listener_replaced_by_another_server_is_shown() -> None:
    async def something_else(_request: Request) -> Response:
        return PlainTextResponse("<h1>Welcome</h1>")

    async with serving(Listener().answer) as port:
        watcher = Watcher(url_of(port))
        await watcher.poll()
    async with watcher, serving(something_else, port):
        await watcher.poll()
    assert watcher.trouble is not None
    assert "is not the metrics listener of seed_oauth" in watcher.trouble


async def test_no_server_is_an_error_with_advice() -> None:
    with pytest.raises(WatchError, match=r"does not respond \(Connection refused\)") as refusal:
        await watch(url_of(free_port()), console=plain_console())
    assert "usually http://127.0.0.1:9464/metrics" in str(refusal.value)


async def test_a_server_of_another_protocol_is_an_error() -> None:
    async def hang_up(stream: SocketStream) -> None:
        await stream.aclose()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listening,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listening.serve, hang_up)
        port = listening.extra(SocketAttribute.local_port)  # noqa: S610 - of a socket, no query
        with pytest.raises(WatchError, match=r"does not respond \(Server disconnected without sending"):
            await watch(url_of(port), console=plain_console())
        tasks.cancel_scope.cancel()


async def test_credentials_in_the_url_are_not_shown() -> None:
    port = free_port()
    with pytest.raises(WatchError) as refusal:
        await watch(f"http://someone:hush@127.0.0.1:{port}/metrics", console=plain_console())
    assert "hush" not in str(refusal.value)
    assert f"http://127.0.0.1:{port}/metrics" in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:9464/metrics", "ftp://127.0.0.1/metrics", "http://[::1/metrics", "http://", "", "metrics"],
)
async def test_an_invalid_url_is_an_error_with_advice(url: str) -> None:
    with pytest.raises(WatchError, match=r"not an http:// or https:// URL.*9464"):
        await watch(url, console=plain_console())


async def test_another_path_is_an_error_with_its_status() -> None:
    async with serving(Listener().answer) as port:
        with pytest.raises(WatchError, match="the response is 404 Not Found"):
            await watch(f"http://127.0.0.1:{port}/", console=plain_console())


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(_request: Request) -> Response:
        return RedirectResponse("/elsewhere")

    async with serving(redirect) as port:
        with pytest.raises(WatchError, match="the response is 307"):
            await watch(url_of(port), console=plain_console())


async def test_an_endless_response_is_cut_off() -> None:
    async def endless(_request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            while True:
                yield "oauth_errors_total 1\n" * 10_000
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(lines())

    async with serving(endless) as port:
        with pytest.raises(WatchError, match="the response has more than 4 MiB"):
            await watch(url_of(port), console=plain_console())


async def test_a_missing_response_times_out() -> None:
    async def silent(request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response()

    async with serving(silent) as port, Watcher(url_of(port), timeout=0.05) as watcher:
        with pytest.raises(WatchError, match=r"did not respond within 0\.05 s"):
            await watcher.poll()


async def test_loopback_is_requested_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    console = plain_console()
    async with serving(Listener().answer) as port:
        await watch(url_of(port), interval=0.01, console=console, once=True)
    assert "Authorization  100 % success" in printed(console)
