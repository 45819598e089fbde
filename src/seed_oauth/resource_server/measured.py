"""What the MCP server is asked to do, how long it takes and whether it succeeds, read beside the request's way.

Nothing is held back or changed: the beginning of the request and of its answer are copied as they pass, up to a limit,
and read when the answer ends. Nothing is refused here either: what cannot be read is an operation of another kind.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seed_oauth.access.tools import CALL
from seed_oauth.http.scope_keys import ADMITTED, OPERATIONS
from seed_oauth.resource_server.headers import is_event_stream
from seed_oauth.settings import Settings
from seed_oauth.settings.tools import METHODS
from seed_oauth.telemetry import Recording
from seed_oauth.telemetry.mcp_operations import OTHER, PROTOCOL_VERSIONS, McpOperations
from seed_oauth.telemetry.mcp_spans import McpSpan, McpSpans

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
        spans: McpSpans | None = None,
    ) -> None:
        """`tools` are the names that may become labels; `clock` counts seconds and never goes back.

        With `spans` each operation is a span, too.
        """
        self._app = app
        self._operations = operations
        self._tools = frozenset(tools)
        self._clock = clock
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        span = self._spans.begin() if self._spans else None
        measured = _Measured(
            scope, receive, send, clock=self._clock, operations=self._operations, record=self._record, span=span
        )
        try:
            await self._app(scope, measured.receive, measured.send)
        finally:
            measured.end()

    def _record(
        self, scope: Scope, asked: "_Beginning", span: McpSpan | None, seconds: float, error: str | None
    ) -> None:
        if ADMITTED not in scope:
            return
        is_known = OPERATIONS in scope
        message = None if is_known and span is None else _message(asked)
        method, tool = self._labels(scope[OPERATIONS] if is_known else _operations(message))
        version = _version(scope)
        self._operations.record(seconds, method, tool, error, version)
        if span is not None:
            span.end(method, tool, error, version, traceparent=_traceparent(message))

    def _labels(self, operations: Sequence[tuple[str, str | None]]) -> tuple[str, str | None]:
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
    operations, spans = pipeline.mcp_operations(), pipeline.mcp_spans()
    tools = settings.measured_tools(settings.tool_scopes)
    return lambda app: MeasuredOperations(app, operations, tools, spans=spans)


class _Measured:
    """One request and its answer, as they pass."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        clock: Callable[[], float],
        operations: McpOperations,
        record: Callable[[Scope, "_Beginning", McpSpan | None, float, str | None], None],
        span: McpSpan | None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._clock = clock
        self._operations = operations
        self._record = record
        self._span = span
        self._started = clock()
        self._asked = _Beginning(LARGEST_REQUEST)
        self._answered = _Beginning(LARGEST_ANSWER)
        self._status = 0
        self._is_stream = False
        # Others than POST open or end a session: MCP Transports.
        self._is_recorded = scope["method"] != "POST"

    async def receive(self) -> Message:
        message = await self._receive()
        if body := message.get("body"):
            self._asked.add(body)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if is_event_stream(message["headers"]):
                self._is_stream = True
                self._operations.open_streams += 1
        elif not self._is_recorded:
            if body := message.get("body"):
                self._answered.add(body)
            if not message.get("more_body"):
                # Before it is sent, so that what was answered is in the next scrape.
                self._end_operation(_error(self._status, self._answered))
        await self._send(message)

    def end(self) -> None:
        """Nothing more will pass."""
        self._operations.open_streams -= self._is_stream
        if not self._is_recorded:
            self._end_operation(CANCELLED)

    def _end_operation(self, error: str | None) -> None:
        self._is_recorded = True
        self._record(self._scope, self._asked, self._span, self._clock() - self._started, error)


class _Beginning:
    """The first bytes of a body."""

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []
        self._left = limit

    def add(self, chunk: bytes) -> None:
        if self._left > 0:
            self._chunks.append(chunk[: self._left])
        self._left -= len(chunk)

    @property
    def is_whole(self) -> bool:
        return self._left >= 0

    def bytes(self) -> bytes:
        return b"".join(self._chunks)


def _error(status: int, answered: _Beginning) -> str | None:
    """The `error.type` of an answer; None if the operation succeeded."""
    if status >= _CLIENT_ERROR:
        return "5xx" if status >= _SERVER_ERROR else "4xx"
    body = answered.bytes()
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


def _message(asked: _Beginning) -> Mapping[str, object] | None:
    """What looks like the one message of a request."""
    try:
        message = orjson.loads(asked.bytes()) if asked.is_whole else None
    except ValueError:
        return None
    if isinstance(message, list) and len(message) == 1:
        (message,) = message
    return message if isinstance(message, dict) else None


def _operations(message: Mapping[str, object] | None) -> Sequence[tuple[str, str | None]]:
    """What looks like the operation that a message asks for."""
    if message is None or not isinstance(method := message.get("method"), str):
        return ()
    params = message.get("params")
    name = params.get("name") if isinstance(params, dict) else None
    return ((method, name if isinstance(name, str) else None),)


def _traceparent(message: Mapping[str, object] | None) -> object:
    """What a message says of the client's span (SEP-414)."""
    params = message.get("params") if message else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta.get("traceparent") if isinstance(meta, dict) else None


def _version(scope: Scope) -> str:
    sent = [value for name, value in scope["headers"] if name == _VERSION]
    return _VERSIONS.get(sent[0], OTHER) if len(sent) == 1 else OTHER
