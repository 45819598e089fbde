"""One bounded request to another server: sent once, without redirects, and no more read than was agreed."""

from codecs import BOM_UTF8
from typing import NamedTuple

import httpx
import orjson

JSON = "application/json"


class ConnectionFailedError(httpx.ConnectError):
    """No connection, or it broke; the message names the problem, and has nothing of the request."""


class TooLargeError(httpx.RemoteProtocolError):
    """The response body exceeds the limit."""


class Response(NamedTuple):
    """The response of another server, with its body as far as it was read."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json_object(self) -> dict[str, object] | None:
        """The JSON object in the body, or None if it is not one."""
        document = self.json()
        return document if isinstance(document, dict) else None

    def json(self) -> object:
        """The JSON in the body, or None if there is none."""
        try:
            # RFC 8259 §8.1: a byte order mark may be ignored.
            return orjson.loads(self.body.removeprefix(BOM_UTF8))
        except orjson.JSONDecodeError:
            return None


async def fetch(transport: httpx.AsyncBaseTransport, url: str, *, limit: int, accept: str = JSON) -> Response:
    """GET a document of at most `limit` bytes. The body is read only if the status is 200.

    Raises:
        httpx.InvalidURL: `url` is not a URL.
        TooLargeError: the document exceeds `limit`.
        httpx.TransportError: there is no response, or it breaks off.
    """
    headers = {
        "Accept": accept,
        # A compressed response could be far larger than the limit.
        "Accept-Encoding": "identity",
        "User-Agent": "seed-oauth",
    }
    response = await transport.handle_async_request(httpx.Request("GET", url, headers=headers))
    return await _bounded(response, limit if response.status_code == httpx.codes.OK else None)


async def send(transport: httpx.AsyncBaseTransport, request: httpx.Request, *, limit: int) -> Response:
    """Send a request and read at most `limit` bytes of the response, whatever its status is.

    Raises:
        TooLargeError: the response body exceeds `limit`.
        httpx.TransportError: there is no response, or it breaks off.
    """
    return await _bounded(await transport.handle_async_request(request), limit)


async def _bounded(response: httpx.Response, limit: int | None) -> Response:
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - the response of an async transport
    body = bytearray()
    try:
        if limit is not None:
            async for chunk in stream:
                body += chunk
                if len(body) > limit:
                    raise TooLargeError("the response is too large")
    finally:
        await stream.aclose()
    return Response(response.status_code, response.headers, bytes(body))
