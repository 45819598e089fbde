"""What the MCP server is asked to do, how long it takes and whether it succeeds, read beside the request's way.

Nothing is held back or changed: the beginning of the request and of its answer are copied as they pass, up to a limit,
and read when the answer ends. Nothing is refused here either: what cannot be read is an operation of another kind.
"""

from collections.abc import Callable, Collection, Sequence
from time import perf_counter

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seed_oauth.access.tools import CALL, Operation
from seed_oauth.http.scope_keys import ADMITTED, OPERATIONS
from seed_oauth.settings import Settings
from seed_oauth.settings.tools import METHODS
from seed_oauth.telemetry import Recording
from seed_oauth.telemetry.mcp_operations import OTHER, PROTOCOL_VERSIONS, McpOperations

LARGEST_REQUEST = 256 * 1024
"""Bytes of a request that are read; the operation of a larger one is not known."""

LARGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read."""

TOOL_ERROR = "tool_error"
CANCELLED = "cancelled"
_SERVER_ERROR = 500
_CLIENT_ERROR = 400

_VERSION = b"mcp-protocol-version"
_VERSIONS = {version.encode(): version for version in PROTOCOL_VERSIONS}

# JSON-RPC 2.0 §5.1, and the one that MCP adds for resources.
_CODES = frozenset({-32700, -32600, -32601, -32602, -32603, -32002})

_SIGN = b'rror"'  # of "isError" and "error" alike


class MeasuredOperations:
    """An ASGI app that records the operation of each POST that another one, with a guard, has admitted."""

    def __init__(
        self,
        app: ASGIApp,
        operations: McpOperations,
        tools: Collection[str],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`tools` are the names that may become labels; `clock` counts seconds and never goes back."""
        self._app = app
        self._operations = operations
        self._tools = frozenset(tools)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_stream = False

        async def watch(message: Message) -> None:
            nonlocal is_stream
            if message["type"] == "http.response.start" and _begins_stream(message):
                is_stream = True
                self._operations.open_streams += 1
            await send(message)

        # Others than POST open or end a session: MCP Transports.
        answer = self._measured if scope["method"] == "POST" else self._app
        try:
            await answer(scope, receive, watch)
        finally:
            self._operations.open_streams -= is_stream

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._clock()
        asked, answered = _Beginning(LARGEST_REQUEST), _Answer()
        recorded = False

        def record(error: str | None) -> None:
            nonlocal recorded
            if recorded or ADMITTED not in scope:
                return
            recorded = True
            method, tool = self._labels(_operations(scope, asked))
            self._operations.record(self._clock() - started, method, tool, error, _version(scope))

        async def copy_request() -> Message:
            message = await receive()
            asked.add(message.get("body", b""))
            return message

        async def copy_answer(message: Message) -> None:
            if answered.add(message):
                record(answered.error())  # before it is sent, so that what was answered is in the next scrape
            await send(message)

        try:
            await self._app(scope, copy_request, copy_answer)
        finally:
            record(CANCELLED)

    def _labels(self, operations: Sequence[Operation]) -> tuple[str, str | None]:
        method, name = operations[0] if len(operations) == 1 else (OTHER, None)
        if method not in METHODS:
            return OTHER, None
        if method != CALL:
            return method, None
        return CALL, name if name in self._tools else OTHER


def measuring(settings: Settings, pipeline: Recording) -> Callable[[ASGIApp], MeasuredOperations] | None:
    """Measures an app as the settings say; None if they say that nothing is measured."""
    if settings.mcp_metrics == "off":
        return None
    operations, tools = pipeline.mcp_operations(), settings.measured_tools(settings.tool_scopes)
    return lambda app: MeasuredOperations(app, operations, tools)


def _begins_stream(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"])


class _Beginning:
    """The first bytes of a body."""

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []
        self._left = limit
        self.is_whole = True

    def add(self, chunk: bytes) -> None:
        if len(chunk) > self._left:
            self.is_whole = False
        if chunk and self._left:
            self._chunks.append(chunk[: self._left])
            self._left -= len(self._chunks[-1])

    def bytes(self) -> bytes:
        return b"".join(self._chunks)


class _Answer:
    """The status of an answer, and its beginning."""

    def __init__(self) -> None:
        self._status = 0
        self._body = _Beginning(LARGEST_ANSWER)

    def add(self, message: Message) -> bool:
        """Whether the answer is complete with this message."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return False
        self._body.add(message.get("body", b""))
        return not message.get("more_body", False)

    def error(self) -> str | None:
        """The `error.type`; None if the operation succeeded."""
        if self._status >= _CLIENT_ERROR:
            return "5xx" if self._status >= _SERVER_ERROR else "4xx"
        body = self._body.bytes()
        if _SIGN not in body:
            return None
        # An event stream has one message in each line with data; an answer in JSON is one.
        data = [line.removeprefix(b"data:") for line in body.splitlines() if line.startswith(b"data:")]
        return next(filter(None, map(_error_in, data or [body])), None)


def _error_in(text: bytes) -> str | None:
    try:
        message = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    if isinstance(error := message.get("error"), dict):
        code = error.get("code")
        return str(code) if isinstance(code, int) and code in _CODES else OTHER
    result = message.get("result")
    return TOOL_ERROR if isinstance(result, dict) and result.get("isError") is True else None


def _operations(scope: Scope, asked: _Beginning) -> Sequence[Operation]:
    """What the request asks for: as the guard has read it, or at least what looks like one operation."""
    if OPERATIONS in scope:
        known: Sequence[Operation] = scope[OPERATIONS]
        return known
    try:
        message = orjson.loads(asked.bytes()) if asked.is_whole else None
    except ValueError:
        return ()
    if isinstance(message, list) and len(message) == 1:
        (message,) = message
    if not isinstance(message, dict) or not isinstance(method := message.get("method"), str):
        return ()
    params = message.get("params")
    name = params.get("name") if isinstance(params, dict) else None
    return (Operation(method, name if isinstance(name, str) else None),)


def _version(scope: Scope) -> str:
    sent = [value for name, value in scope["headers"] if name == _VERSION]
    return _VERSIONS.get(sent[0], OTHER) if len(sent) == 1 else OTHER
