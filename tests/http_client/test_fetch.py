"""One bounded request: what is sent, and how much is read."""

from collections.abc import AsyncIterator

import httpx
import pytest

from seed_oauth.http_client.fetch import Response, TooLargeError, fetch, send

pytestmark = pytest.mark.anyio

URL = "https://other.example/document"


class Endless(httpx.AsyncByteStream):
    def __init__(self) -> None:
        self.read = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.read += 10
            yield b"0123456789"

    async def aclose(self) -> None:
        self.is_closed = True


def answering(response: httpx.Response) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: response)


async def test_a_document_is_asked_for_without_credentials_and_uncompressed() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"a": 1}, headers={"cache-control": "no-store"})

    response = await fetch(httpx.MockTransport(answer), URL, limit=100)
    assert (response.status, response.headers["cache-control"]) == (200, "no-store")
    assert response.json_object() == {"a": 1}
    (request,) = seen
    assert request.method == "GET"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & request.headers.keys()


async def test_no_more_is_read_than_the_limit() -> None:
    stream = Endless()
    with pytest.raises(TooLargeError):
        await fetch(answering(httpx.Response(200, stream=stream)), URL, limit=100)
    assert (stream.read, stream.is_closed) == (110, True)
    exactly = await fetch(answering(httpx.Response(200, content=b"x" * 100)), URL, limit=100)
    assert exactly.body == b"x" * 100


@pytest.mark.parametrize("status", [204, 302, 404, 500])
async def test_of_any_other_status_than_200_the_body_is_not_read(status: int) -> None:
    stream = Endless()
    response = await fetch(answering(httpx.Response(status, stream=stream)), URL, limit=100)
    assert (response.status, response.body) == (status, b"")
    assert (stream.read, stream.is_closed) == (0, True)


async def test_a_request_of_ones_own_gets_its_body_whatever_the_status_is() -> None:
    refused = answering(httpx.Response(400, json={"error": "invalid_grant"}))
    response = await send(refused, httpx.Request("POST", URL), limit=100)
    assert response.json_object() == {"error": "invalid_grant"}


@pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"{", b"\xff", b'{"a": NaN}'])
async def test_what_is_not_a_json_object_is_none(body: bytes) -> None:
    assert Response(200, httpx.Headers(), body).json_object() is None
