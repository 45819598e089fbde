"""A response that is sent before the request has ended, so that the client still receives it."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Send

_SECONDS = 2.0  # for the client to read the response and to stop sending
_BYTES = 1 << 20  # that are read and dropped meanwhile


def early_response(receive: Receive, send: Send) -> Send:
    """A `send` that delays the end of the response until the client has stopped sending, or a limit is reached.

    Closing the connection earlier resets it, and a reset discards a response that the client has not read yet
    (RFC 9112 §9.6).
    """

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await send({**message, "more_body": True})
            await _drop_rest(receive)
            message = {"type": "http.response.body"}
        await send(message)

    return sending


async def _drop_rest(receive: Receive) -> None:
    dropped, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            while more and dropped < _BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                more = message.get("more_body", False)
