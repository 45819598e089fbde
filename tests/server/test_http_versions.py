"""The versions of HTTP that a connection speaks."""

from collections.abc import AsyncIterator

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.faults.served import connect, served

pytestmark = pytest.mark.anyio


async def pieces() -> AsyncIterator[bytes]:
    yield b"one, "
    yield b"two"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a known length at /known, and with an unknown one elsewhere."""
    known = Response(b"one, two", media_type="text/plain")
    response = known if scope["path"] == "/known" else StreamingResponse(pieces(), media_type="text/plain")
    await response(scope, receive, send)


@pytest.mark.parametrize("path", [b"/known", b"/unknown"])
@pytest.mark.parametrize("fields", [b"", b"Connection: keep-alive\r\n", b"TE: chunked\r\n"])
async def test_a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_connection(path: bytes, fields: bytes) -> None:
    """RFC 9112 §7.1: it does not know them."""
    async with served(app) as listener:
        client = await connect(listener)
        await client.send(b"GET %b HTTP/1.0\r\nHost: door\r\n%b\r\n" % (path, fields))
        head, _, body = (await client.end()).partition(b"\r\n\r\n")
        client.leave()
        assert b"transfer-encoding" not in head
        assert (b"content-length: 8" in head) == (path == b"/known")
        assert body == b"one, two"


async def test_a_client_of_http_1_0_that_asks_for_the_head_gets_no_body() -> None:
    async with served(app) as listener:
        client = await connect(listener)
        await client.send(b"HEAD /unknown HTTP/1.0\r\nHost: door\r\n\r\n")
        head, _, body = (await client.end()).partition(b"\r\n\r\n")
        client.leave()
        assert head.startswith(b"HTTP/1.1 200")
        assert body == b""


async def test_a_client_of_http_1_1_gets_chunks() -> None:
    async with served(app) as listener:
        client = await connect(listener)
        await client.send(b"GET /unknown HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n")
        assert (await client.end()).endswith(b"\r\n\r\n5\r\none, \r\n3\r\ntwo\r\n0\r\n\r\n")
        client.leave()
