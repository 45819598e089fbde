"""Answers to `tools/list` without the tools that a token may not call."""

import re
from collections.abc import Callable

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from seed_oauth.http_client.exchange import Headers

_LARGEST = 4 * 1024 * 1024  # bytes of an answer or of an event; a larger one is passed on as it is

# A blank line ends an event; there are three line ends (HTML, "Server-sent events").
_END_OF_EVENT = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


def uncompressed(headers: Headers) -> Headers:
    """The header fields of a request whose response is to be read here."""
    return [*(field for field in headers if field[0] != b"accept-encoding"), (b"accept-encoding", b"identity")]


class ToolLists:
    """Filters one answer while it is passed on. Everything else in it stays the same, byte for byte.

    This is for the client's convenience: calls are checked on their own.
    """

    def __init__(self, may_call: Callable[[str], bool]) -> None:
        self._may_call = may_call
        self._held = b""
        self._filters = False
        self._is_stream = False

    def filtering(self, send: Send) -> Send:
        """An ASGI channel that passes the answer on to `send`."""

        async def filtered(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send({**message, "headers": self._begin(message["headers"])})
                return
            more = message.get("more_body", False)
            body = self._passed(message.get("body", b"")) + (b"" if more else self._left())
            if body or not more:
                await send({**message, "body": body})

        return filtered

    def _begin(self, headers: Headers) -> Headers:
        fields = MutableHeaders(raw=list(headers))
        kind = fields.get("content-type", "").partition(";")[0].strip().lower()
        self._is_stream = kind == "text/event-stream"
        is_plain = fields.get("content-encoding", "identity") == "identity"
        self._filters = is_plain and (self._is_stream or kind == "application/json")
        if self._filters:
            del fields["content-length"]
        return fields.raw

    def _passed(self, chunk: bytes) -> bytes:
        """What to pass on when `chunk` has arrived."""
        if not self._filters:
            return chunk
        self._held += chunk
        passed = b""
        if self._is_stream:
            while end := _END_OF_EVENT.search(self._held):
                passed += self._event(self._held[: end.end()])
                self._held = self._held[end.end() :]
        if len(self._held) > _LARGEST:
            self._filters = False
            passed += self._held
            self._held = b""
        return passed

    def _left(self) -> bytes:
        """What is left to pass on after the last chunk."""
        held, self._held = self._held, b""
        return held if self._is_stream else self._filtered(held) or held

    def _event(self, event: bytes) -> bytes:
        lines = event.splitlines()
        data = b"\n".join(_value(line) for line in lines if line.startswith(b"data:"))
        filtered = self._filtered(data)
        if filtered is None:
            return event
        others = [line for line in lines if line and not line.startswith(b"data:")]
        return b"\n".join([*others, b"data: " + filtered, b"", b""])

    def _filtered(self, message: bytes) -> bytes | None:
        """The message without the tools that may not be called; None if it stays as it is."""
        if b'"tools"' not in message:
            return None
        try:
            parsed = orjson.loads(message)
            messages = parsed if isinstance(parsed, list) else [parsed]
            changes = [self._change(one.get("result")) for one in messages if isinstance(one, dict)]
            return orjson.dumps(parsed) if any(changes) else None
        except (ValueError, TypeError):
            return None

    def _change(self, result: object) -> bool:
        if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
            return False
        tools = [tool for tool in result["tools"] if self._is_callable(tool)]
        # MCP 2026-07-28, "Caching": a list for everybody may be given to others.
        is_public = result.get("cacheScope") == "public"
        changed = is_public or len(tools) < len(result["tools"])
        result["tools"] = tools
        if is_public:
            result["cacheScope"] = "private"
        return changed

    def _is_callable(self, tool: object) -> bool:
        name = tool.get("name") if isinstance(tool, dict) else None
        return not isinstance(name, str) or self._may_call(name)


def _value(line: bytes) -> bytes:
    return line.removeprefix(b"data:").removeprefix(b" ")
