"""Responses to clients of HTTP/1.0."""

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


async def until_closed(cycle: RequestResponseCycle, message: Message) -> None:
    """Send a response to HTTP/1.0, which has no chunked encoding: the end of the connection ends the body."""
    if message["type"] == "http.response.start":
        cycle.chunked_encoding = False
    elif message["type"] == "http.response.body":
        cycle.expected_content_length = len(message.get("body", b""))
    await RequestResponseCycle.send(cycle, message)  # type: ignore[arg-type]  # ASGI's, as uvicorn has it
