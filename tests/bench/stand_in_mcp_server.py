"""An MCP server for the benchmark, which is not measured itself: raw ASGI, so that it takes little of the machine.

It answers each request with 100 bytes of JSON, with `?bytes=…` with so many, and with `?events` with an event stream:
an event of 100 bytes, ten times a second.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

ANSWER = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"written"}],"isError":false}}'.ljust(100)
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"'.ljust(95, b"x") + b'"}}\n\n'
PIECE = 64 * 1024
SLOTS = 10  # per tenth of a second, so that not all streams have their events at once

streams: dict[object, Send] = {}


@lru_cache
def ticker() -> "asyncio.Task[None]":
    return asyncio.create_task(tick())


async def tick() -> None:
    """Send the events, a tenth of the streams at a time."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in itertools.count(1):
        await asyncio.sleep(started + number / (10 * SLOTS) - loop.time())
        for send in list(streams.values())[number % SLOTS :: SLOTS]:
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    """Any path."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    name, _, value = scope["query_string"].partition(b"=")
    if name == b"events":
        await stream(receive, send)
    else:
        await answer(int(value) if name == b"bytes" else 0, send)


async def stream(receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    """Events until the client leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    ticker()
    me = object()
    streams[me] = send
    try:
        await receive()
    finally:
        del streams[me]


async def answer(size: int, send: Send) -> None:
    """So many bytes, or the usual ones."""
    length = str(size or len(ANSWER)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if not size:
        await send({"type": "http.response.body", "body": ANSWER})
        return
    for begin in range(0, size, PIECE):
        rest = size - begin
        piece = b" " * min(PIECE, rest)
        await send({"type": "http.response.body", "body": piece, "more_body": rest > PIECE})
