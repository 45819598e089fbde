"""The way to the identity provider on real sockets: what each fault is called."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from seed_oauth import Settings
from seed_oauth.identity_provider.client import TokenResponse
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.open import open_client, open_transport
from seed_oauth.outcomes import GrantType
from tests.certificates import serving, trusting
from tests.cli.test_cli import PATIENCE, free_port

pytestmark = pytest.mark.anyio

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SOON = 0.2
"""Seconds after which what never comes is given up."""
TOKEN = b'{"access_token": "at"}'


def response(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that hands each connection to `handler`; yields its port."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def answering(*parts: bytes, then_hang: bool = False) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
        if then_hang:
            await asyncio.Event().wait()

    return handler


async def exchange(port: int, *, scheme: str = "http", timeout: float = PATIENCE) -> TokenResponse:  # noqa: ASYNC109 - the setting's name
    settings = Settings(
        idp_token_url=f"{scheme}://127.0.0.1:{port}/token",
        idp_client_id="proxy",
        idp_timeout=timeout,
        idp_connect_timeout=timeout,
    )
    provider = open_client(settings, open_transport(settings))
    try:
        return await provider.exchange(settings.idp_token_url or "", GrantType.REFRESH_TOKEN, {"refresh_token": "rt"})
    finally:
        await provider.aclose()


async def failure_of(handler: Handler, **options: Any) -> IdentityProviderFailure:
    async with listening(handler) as port:
        with pytest.raises(IdentityProviderError) as failed:
            await exchange(port, **options)
    return failed.value.failure


async def test_an_answer_in_pieces_is_read_whole() -> None:
    whole = response(TOKEN)
    async with listening(answering(whole[:10], whole[10:50], whole[50:])) as port:
        assert (await exchange(port)).members == {"access_token": "at"}


async def test_a_connection_is_kept_for_the_next_exchange_and_no_cookie_with_it() -> None:
    requests: list[bytes] = []
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            requests.append(head + await reader.readexactly(int(length.split(b":")[1])))
            writer.write(response(TOKEN, headers=b"Set-Cookie: session=alice\r\n"))

    async with listening(handler) as port:
        settings = Settings(idp_token_url=f"http://127.0.0.1:{port}/token", idp_client_id="proxy")
        provider = open_client(settings, open_transport(settings))
        for _ in range(3):
            await provider.exchange(settings.idp_token_url or "", GrantType.REFRESH_TOKEN, {"refresh_token": "rt"})
        await provider.aclose()
    assert connections == 1
    assert len(requests) == 3
    assert not [request for request in requests if b"cookie" in request.lower()]
    assert b"grant_type=refresh_token&refresh_token=rt&client_id=proxy" in requests[0]


async def test_a_refused_connection_is_unreachable() -> None:
    with pytest.raises(IdentityProviderError) as failed:
        await exchange(free_port())
    assert failed.value.failure is IdentityProviderFailure.UNREACHABLE


async def test_a_connection_that_breaks_before_the_answer_is_unreachable_and_not_tried_again() -> None:
    requests = 0

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await reader.readuntil(b"\r\n\r\n")

    assert await failure_of(handler) is IdentityProviderFailure.UNREACHABLE
    assert requests == 1, "a code must never be sent twice"


async def test_a_connection_that_breaks_in_the_answer_is_unreachable() -> None:
    handler = answering(response(TOKEN)[:-5])
    assert await failure_of(handler) is IdentityProviderFailure.UNREACHABLE


async def test_no_answer_is_a_timeout() -> None:
    assert await failure_of(answering(then_hang=True), timeout=SOON) is IdentityProviderFailure.TIMEOUT


async def test_an_answer_that_stops_after_the_headers_is_a_timeout() -> None:
    handler = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", then_hang=True)
    assert await failure_of(handler, timeout=SOON) is IdentityProviderFailure.TIMEOUT


async def test_an_answer_that_drips_is_a_timeout_in_all() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)

    assert await failure_of(drip, timeout=SOON) is IdentityProviderFailure.TIMEOUT


async def test_an_answer_that_never_ends_is_cut_off() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
            await writer.drain()

    assert await failure_of(endless) is IdentityProviderFailure.INVALID_RESPONSE


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n"])
async def test_what_is_not_http_is_an_invalid_response(answer: bytes) -> None:
    assert await failure_of(answering(answer)) is IdentityProviderFailure.INVALID_RESPONSE


async def test_a_redirect_is_not_followed() -> None:
    handler = answering(response(b"", b"307 Temporary Redirect", b"Location: http://127.0.0.1:1/\r\n"))
    assert await failure_of(handler) is IdentityProviderFailure.UNEXPECTED_STATUS


async def test_a_server_without_tls_is_unreachable_by_https() -> None:
    async def greeting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this is not TLS\r\n")

    assert await failure_of(greeting, scheme="https") is IdentityProviderFailure.UNREACHABLE


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    settings = Settings(idp_token_url="https://idp.invalid/token", idp_client_id="proxy")
    provider = open_client(settings, open_transport(settings))
    with pytest.raises(IdentityProviderError) as failed:
        await provider.exchange(settings.idp_token_url or "", GrantType.REFRESH_TOKEN, {})
    await provider.aclose()
    assert failed.value.failure is IdentityProviderFailure.UNREACHABLE


async def test_the_environments_proxy_is_used_except_where_it_does_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n"))
        writer.write(response(TOKEN))

    async with listening(proxy) as proxy_port, listening(answering(response(TOKEN))) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy_port}")
        await exchange(port)
        assert seen == [b"POST http://127.0.0.1:%d/token HTTP/1.1\r\n" % port]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await exchange(port)
        assert len(seen) == 1


class ClosingServer:
    """A server in a thread, which goes on while the event loop looks at nothing.

    It answers the first request, and closes that connection when it is told to; it answers what comes on the next.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._close, self._closed = threading.Event(), threading.Event()
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close_first_connection(self) -> None:
        """Once this returns, the system has the news, and the event loop of whoever called it has not."""
        self._close.set()
        assert self._closed.wait(PATIENCE)

    def join(self) -> None:
        self._thread.join(PATIENCE)
        self._listening.close()

    def _run(self) -> None:
        with self._accepted() as first:
            self._answer(first)
            self._close.wait()
        self._closed.set()
        with self._accepted() as second:
            self._answer(second)

    def _accepted(self) -> socket.socket:
        accepted, _ = self._listening.accept()
        return self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while not received.endswith(b"client_id=proxy"):
            received += connection.recv(65_536)
        self.requests.append(received)
        connection.sendall(response(TOKEN))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_that_was_closed_while_the_loop_was_busy_is_not_used(
    scheme: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Faults, "The identity provider", connection closed on a kept-alive socket: nobody's login fails by it."""
    server = ClosingServer(serving("127.0.0.1") if scheme == "https" else None)
    settings = Settings(idp_token_url=f"{scheme}://127.0.0.1:{server.port}/token", idp_client_id="proxy")

    async def scenario() -> None:
        provider = open_client(settings, open_transport(settings, trusting()))
        for number in range(2):
            if number:
                server.close_first_connection()  # and no other task has its turn before the next request
            await provider.exchange(settings.idp_token_url or "", GrantType.REFRESH_TOKEN, {"refresh_token": "rt"})
        await provider.aclose()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
    server.join()
    assert len(server.requests) == 2, "each was sent once"
