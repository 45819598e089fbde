"""An MCP server for the benchmark, which is not measured itself: raw ASGI, so that it takes little of the machine.

It answers each call of a tool with 100 bytes of JSON, with `?bytes=…` with so many, and with `?events` with an event
stream: an event of 100 bytes, ten times a second. FastMCP's proxy asks it for its tools, too.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

TOOL = {"name": "write_file", "inputSchema": {"type": "object"}}
RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "stand-in", "version": "1"},
    },
    "tools/list": {"tools": [TOOL]},
    "tools/call": {"content": [{"type": "text", "text": "written"}]},
}
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
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    name, _, value = scope["query_string"].partition(b"=")
    if name == b"events":
        await stream(receive, send)
    else:
        await answer(int(value) if name == b"bytes" else 0, body, send)


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


async def answer(size: int, body: bytes, send: Send) -> None:
    """So many bytes, or the usual ones."""
    if size:
        await start(200, size, send)
        for begin in range(0, size, PIECE):
            piece = b" " * min(PIECE, size - begin)
            await send({"type": "http.response.body", "body": piece, "more_body": begin + PIECE < size})
        return
    told = ANSWER if b'"id":7,' in body or not body else answer_to(json.loads(body))
    await start(200 if told else 202, len(told), send)
    await send({"type": "http.response.body", "body": told})


def answer_to(asked: Message) -> bytes:
    """The response to a request of another client, whose number is not always the same."""
    if "id" not in asked:
        return b""
    return json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": RESULTS.get(asked["method"], {})}).encode()


async def start(status: int, length: int, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
