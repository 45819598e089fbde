"""Answers that list tools, without those that a token may not call."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from seed_oauth.resource_server.tool_lists import ToolLists

pytestmark = pytest.mark.anyio

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"


def answer(*names: object, **result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name} for name in names], **result}}


def may_call(name: str) -> bool:
    return not name.startswith("delete")


@dataclass
class Answer:
    """An answer on its way to a client that may call no tool whose name begins with `delete`."""

    kind: str = JSON
    encoding: str | None = None
    sent: list[Message] = field(default_factory=list)

    async def begin(self) -> None:
        self.send = ToolLists(may_call).filtering(self._note)
        headers = [(b"content-type", self.kind.encode()), (b"content-length", b"5")]
        encoding = [(b"content-encoding", self.encoding.encode())] if self.encoding else []
        await self.send({"type": "http.response.start", "status": 200, "headers": headers + encoding})

    async def feed(self, chunk: bytes, *, more: bool = True) -> bytes:
        """What is passed on of it."""
        before = len(self.sent)
        await self.send({"type": "http.response.body", "body": chunk, "more_body": more})
        return b"".join(message["body"] for message in self.sent[before:])

    async def _note(self, message: Message) -> None:
        self.sent.append(message)


async def passed(chunks: Iterable[bytes], kind: str = JSON, encoding: str | None = None) -> bytes:
    answer = Answer(kind, encoding)
    await answer.begin()
    return b"".join([await answer.feed(chunk) for chunk in chunks] + [await answer.feed(b"", more=False)])


def pieces(whole: bytes, size: int) -> list[bytes]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_may_not_be_called_is_left_out_of_json(size: int) -> None:
    whole = json.dumps(answer("read", "delete_file", nextCursor="c")).encode()
    assert json.loads(await passed(pieces(whole, size))) == answer("read", nextCursor="c")


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_what_may_not_be_called_is_left_out_of_events(size: int, end: str) -> None:
    notification = json.dumps({"method": "notifications/message", "params": {"data": "tools"}})
    listing = json.dumps(answer("read", "delete_file"), indent=1)
    lines = [
        ": a comment",
        "",
        f"data: {notification}",
        "",
        "event: message",
        "id: 3",
        *(f"data: {line}" for line in listing.splitlines()),
        "",
        "data:after",
        "",
        "",
    ]
    seen = (
        (await passed(pieces(end.join(lines).encode(), size), EVENTS))
        .decode()
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )
    filtered = json.dumps(answer("read"), separators=(",", ":"))
    expected = f": a comment\n\ndata: {notification}\n\nevent: message\nid: 3\ndata: {filtered}\n\ndata:after\n\n"
    assert [line for line in seen.split("\n") if line] == [line for line in expected.split("\n") if line]


@pytest.mark.parametrize(
    "whole",
    [
        answer("read", "write"),
        answer(),
        answer(1, None),
        {"result": {"tools": {"name": "delete"}}},
        {"result": {"tools": ["delete"]}},
        {"error": {"code": 1, "message": "tools"}},
        {"result": None, "tools": []},
        ["tools"],
        "tools",
    ],
)
async def test_what_is_no_list_with_such_tools_stays_byte_for_byte(whole: object) -> None:
    body = json.dumps(whole, indent=2).encode()
    assert await passed([body]) == body
    event = b"data: " + json.dumps(whole).encode() + b"\r\n\r\n"
    assert await passed([event], EVENTS) == event


async def test_each_answer_of_a_batch_is_filtered() -> None:
    batch = [answer("delete"), {"id": 2, "result": {}}, answer("read", "delete")]
    assert json.loads(await passed([json.dumps(batch).encode()])) == [answer(), {"id": 2, "result": {}}, answer("read")]


async def test_a_list_of_one_user_is_not_for_the_cache_of_all() -> None:
    """MCP 2026-07-28, "Caching"."""
    shared = json.dumps(answer("read", cacheScope="public", ttlMs=5)).encode()
    assert json.loads(await passed([shared])) == answer("read", cacheScope="private", ttlMs=5)
    private = json.dumps(answer("read", cacheScope="private")).encode()
    assert await passed([private]) == private


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("text/html", None), ("", None), (JSON, "gzip"), (EVENTS, "br"), ("application/jsonx", None)],
)
async def test_what_cannot_be_read_here_is_passed_on_at_once(kind: str, encoding: str | None) -> None:
    body = json.dumps(answer("delete")).encode()
    answered = Answer(kind, encoding)
    await answered.begin()
    assert (b"content-length", b"5") in answered.sent[0]["headers"]
    assert await answered.feed(body) == body
    assert await answered.feed(b"", more=False) == b""


async def test_an_answer_that_is_too_large_is_passed_on_as_it_is() -> None:
    body = json.dumps(answer("delete", text="a" * 5_000_000)).encode()
    assert await passed(pieces(body, 100_000)) == body
    assert await passed(pieces(b"data: " + body, 100_000), EVENTS) == b"data: " + body


async def test_an_event_is_passed_on_as_soon_as_it_is_complete() -> None:
    answered = Answer(EVENTS, "identity")
    await answered.begin()
    assert b"content-length" not in dict(answered.sent[0]["headers"])
    assert await answered.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert await answered.feed(b"\n\n") == b"data: 2\n\n"
    assert await answered.feed(b"data: broken off") == b""
    assert await answered.feed(b"", more=False) == b"data: broken off"


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\n", b"\r", b"\r\n", b'data: {"tools"'])), st.booleans())
async def test_whatever_else_a_server_sends_is_passed_on_unchanged(chunks: list[bytes], is_stream: bool) -> None:
    assert await passed(chunks, EVENTS if is_stream else JSON) == b"".join(chunks)
