"""Requests to the MCP server on real sockets and on both event loops: what is read, and when a connection is kept."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.http_client.connection_pool import ConnectionPool
from seed_oauth.http_client.exchange import (
    LARGEST_HEAD,
    MOST_BUFFERED,
    BrokenConnectionError,
    Exchange,
    InvalidResponseError,
)
from tests.certificates import authority_pem, serving
from tests.cli.test_cli import PATIENCE, free_port
from tests.http_client.test_transport import Handler, answering, listening, response

pytestmark = pytest.mark.anyio

GET = b"GET /mcp HTTP/1.1\r\nHost: mcp\r\n\r\n"
ONE_READ = 256 * 1024
"""Bytes that an event loop reads at most at a time."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def pool_of(url: str, *, keepalive: float = PATIENCE) -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool(url, connect_timeout=PATIENCE, keepalive=keepalive)
    with anyio.fail_after(PATIENCE):
        try:
            yield pool
        finally:
            await pool.aclose()


@asynccontextmanager
async def pool_for(handler: Handler, *, keepalive: float = PATIENCE) -> AsyncIterator[ConnectionPool]:
    async with listening(handler) as port, pool_of(f"http://127.0.0.1:{port}", keepalive=keepalive) as pool:
        yield pool


async def asked(pool: ConnectionPool) -> Exchange:
    """An exchange whose response has begun."""
    exchange = await pool.exchange()
    exchange.send(GET, b"")
    await exchange.head(PATIENCE)
    return exchange


async def body_of(exchange: Exchange) -> bytes:
    chunks = []
    while not exchange.is_complete:
        chunks.append(await exchange.chunk())
    return b"".join(chunks)


async def answer_of(pool: ConnectionPool) -> tuple[int, bytes]:
    exchange = await asked(pool)
    try:
        return exchange.status, await body_of(exchange)
    finally:
        exchange.close()


class Connections:
    """A server that sends `answer` to each request, and counts."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.opened = 0
        self.closed = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(self.answer)
        finally:
            self.closed.set()


HI = response(b"hi")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nTrailer: t\r\n\r\n"
KEPT = {
    "with a length": HI,
    "in chunks, with a trailer": CHUNKED,
    "after interim responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + HI,
    "without a body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "of a version that need not keep it": HI.replace(b"/1.1", b"/1.0").replace(
        b"Con", b"Connection: keep-alive\r\nCon"
    ),
}
NOT_KEPT = {
    "closed by the server": response(b"hi", headers=b"Connection: close\r\n"),
    "of HTTP/1.0": HI.replace(b"/1.1", b"/1.0"),
    "with a response that nobody asked for": HI + HI,
    "with more than it says": HI + b"more",
    "of another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nraw",
}


@pytest.mark.parametrize("kind", KEPT)
async def test_a_connection_is_kept_after_a_response(kind: str) -> None:
    server = Connections(KEPT[kind])
    async with pool_for(server) as pool:
        answers = {await answer_of(pool) for _ in range(3)}
    assert answers == {(204, b"") if kind == "without a body" else (200, b"hi")}
    assert server.opened == 1


@pytest.mark.parametrize("kind", NOT_KEPT)
async def test_a_connection_is_not_kept_after_a_response(kind: str) -> None:
    """THREATS 50."""
    server = Connections(NOT_KEPT[kind])
    async with pool_for(server) as pool:
        answers = {await answer_of(pool) for _ in range(3)}
    assert answers == {(101, b"") if kind == "of another protocol" else (200, b"hi")}
    assert server.opened == 3


async def test_header_fields_are_those_of_the_final_response_without_trailers() -> None:
    async with pool_for(Connections(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + CHUNKED)) as pool:
        exchange = await asked(pool)
        await body_of(exchange)
        exchange.close()
    assert exchange.fields == [(b"Transfer-Encoding", b"chunked")]


@given(answer=st.sampled_from([HI, CHUNKED, KEPT["after interim responses"]]), cuts=st.sets(st.integers(1, 60)))
def test_it_does_not_matter_in_which_pieces_a_response_arrives(answer: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    pieces = [answer[begin:end] for begin, end in pairwise(places)]

    class Loose:
        """A connection to nowhere."""

        exchange: Exchange | None = None

        def resume_reading(self) -> None:
            pass

    async def scenario() -> None:
        exchange = Exchange(Loose(), is_first=True)  # type: ignore[arg-type]  # all that reading needs
        for piece in pieces:
            exchange.feed(piece)
        assert (exchange.status, await body_of(exchange)) == (200, b"hi")

    asyncio.run(scenario())


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with pool_for(answering(b"HTTP/1.1 200 OK\r\n\r\nuntil ", b"the end")) as pool:
        assert await answer_of(pool) == (200, b"until the end")


BROKEN = {
    "before the response": b"",
    "in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "in a body with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhi",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "after an interim response": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("where", BROKEN)
async def test_a_connection_that_ends_early_is_an_error(where: str) -> None:
    async with pool_for(answering(BROKEN[where])) as pool:
        with pytest.raises(BrokenConnectionError):
            await answer_of(pool)


async def test_a_reset_is_not_the_end_of_a_body() -> None:
    begun = asyncio.Event()

    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(b"HTTP/1.1 200 OK\r\n\r\nhi")(reader, writer)
        await begun.wait()
        writer.transport.get_extra_info("socket").setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER: 0 seconds
        writer.transport.abort()

    async with pool_for(resets) as pool:
        exchange = await asked(pool)
        assert await exchange.chunk() == b"hi"
        begun.set()
        with pytest.raises(BrokenConnectionError):
            await exchange.chunk()
        exchange.close()


INVALID = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "a length and chunks": CHUNKED.replace(b"Transfer", b"Content-Length: 2\r\nTransfer"),
    "a size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * LARGEST_HEAD,
    "many header fields": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * (LARGEST_HEAD // 6),
    "many interim responses": b"HTTP/1.1 100 Continue\r\n\r\n" * (LARGEST_HEAD // 25 + 1),
    "trailers without an end": CHUNKED[:-4] + b"x" * (LARGEST_HEAD + ONE_READ),
}


@pytest.mark.parametrize("kind", INVALID)
async def test_what_is_not_http_is_an_error(kind: str) -> None:
    async with pool_for(answering(INVALID[kind], then_hang=True)) as pool:
        with pytest.raises(InvalidResponseError):
            await answer_of(pool)


async def test_who_waits_for_the_head_for_too_long_gives_up_and_the_server_hears_of_it() -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        ended.set()

    async with pool_for(silent) as pool:
        exchange = await pool.exchange()
        exchange.send(GET, b"")
        with pytest.raises(TimeoutError):
            await exchange.head(0.01)
        await ended.wait()


async def test_a_connection_that_nobody_uses_is_closed_after_a_while() -> None:
    server = Connections(HI)
    async with pool_for(server, keepalive=0.01) as pool:
        exchanges = [await asked(pool) for _ in range(2)]
        for exchange in exchanges:
            await body_of(exchange)
            exchange.close()
        await server.closed.wait()


async def test_a_pool_that_is_closed_keeps_no_connection() -> None:
    server = Connections(HI)
    async with pool_for(server) as pool:
        exchange = await asked(pool)
        await pool.aclose()
        assert await body_of(exchange) == b"hi"
        exchange.close()
        await server.closed.wait()


async def test_a_connection_on_which_something_comes_that_nobody_asked_for_is_not_used_again() -> None:
    ask_again = asyncio.Event()
    opened = 0

    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HI)
        if opened == 1:
            await ask_again.wait()
            writer.write(response(b"for somebody else"))
        assert await reader.read() == b""
        ask_again.set()

    async with pool_for(talks) as pool:
        assert await answer_of(pool) == (200, b"hi")
        ask_again.set()
        ask_again.clear()
        await ask_again.wait()
        assert await answer_of(pool) == (200, b"hi")
    assert opened == 2


async def test_a_server_has_to_wait_for_who_reads_slowly() -> None:
    size = 64 * ONE_READ
    async with pool_for(Connections(response(b"x" * size))) as pool:
        exchange = await asked(pool)
        chunks = []
        while not exchange.is_complete:
            for _ in range(20):  # in which it could read as often
                await asyncio.sleep(0)
            chunks.append(len(await exchange.chunk()))
        exchange.close()
    assert sum(chunks) == size
    assert max(chunks) <= MOST_BUFFERED + ONE_READ


async def test_who_sends_has_to_wait_for_a_server_that_reads_slowly() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            yield b"x" * ONE_READ
            sent += ONE_READ

    ended = asyncio.Event()

    async def does_not_read_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await ended.wait()

    async with pool_for(does_not_read_on) as pool:
        exchange = await pool.exchange()
        exchange.send(GET, pieces())
        await exchange.head(PATIENCE)
        for _ in range(1000):
            await asyncio.sleep(0)
        exchange.close()
        ended.set()
    assert sent < 500 * ONE_READ


async def test_trouble_with_the_body_of_the_request_is_raised_to_who_waits() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ValueError("no more")

    async with pool_for(answering(then_hang=True)) as pool:
        exchange = await pool.exchange()
        exchange.send(GET, pieces())
        with pytest.raises(ValueError, match="no more"):
            await exchange.head(PATIENCE)


async def test_a_response_can_be_ended_before_the_server_ends_it() -> None:
    server = Connections(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    async with pool_for(server) as pool:
        exchange = await asked(pool)
        assert await exchange.chunk() == b"hi"
        waiting = asyncio.create_task(exchange.chunk())
        await asyncio.sleep(0)
        exchange.end()
        assert await waiting == b""
        exchange.close()
        await server.closed.wait()


async def test_nobody_who_has_closed_an_exchange_disturbs_the_next_one_on_the_connection() -> None:
    async with pool_for(Connections(HI)) as pool:
        first = await asked(pool)
        await body_of(first)
        first.close()
        second = await asked(pool)
        first.fail(ValueError())
        first.end()
        assert not second.is_first
        assert await body_of(second) == b"hi"
        second.close()


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with pool_of(f"http://127.0.0.1:{free_port()}") as pool:
        with pytest.raises(ConnectionError):
            await pool.exchange()


async def test_of_the_addresses_of_a_name_one_is_found_that_answers() -> None:
    async with listening(Connections(HI)) as port, pool_of(f"http://localhost:{port}") as pool:
        assert await answer_of(pool) == (200, b"hi")


async def test_a_server_may_speak_tls_with_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(Connections(HI), serving("127.0.0.1")) as port:
        url = f"https://127.0.0.1:{port}"
        async with pool_of(url) as pool:
            with pytest.raises(ssl.SSLCertVerificationError):
                await pool.exchange()
        (tmp_path / "authority.pem").write_text(authority_pem())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        async with pool_of(url) as pool:
            assert {await answer_of(pool) for _ in range(2)} == {(200, b"hi")}
