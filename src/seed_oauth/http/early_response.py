"""An answer that comes before the end of its request: it must not be lost in what the client still sends."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Send

_SECONDS = 2.0  # for the client to read the answer, and to stop
_BYTES = 1 << 20  # of what it sends meanwhile are dropped


def early_response(receive: Receive, send: Send) -> Send:
    """`send`, but for the end of the answer, which waits until the client has stopped sending, or long enough.

    A connection that is closed before that is reset, and a reset takes the answer from a client that has not
    read it yet (RFC 9112 §9.6).
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
