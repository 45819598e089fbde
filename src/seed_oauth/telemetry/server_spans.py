"""Spans of incoming requests, of which those of one login are one trace.

Which trace a request belongs to is known once it has opened its envelope. Its span therefore starts late, with the time
at which the request began: when its context is first needed, or at its end. That of whoever sent the request becomes a
link, never the parent: this server is open to the public, and the operator's sampler decides what is sampled, not the
flag in a stranger's `traceparent`.
"""

from time import time_ns

from opentelemetry import propagate
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from starlette.datastructures import URL, Headers
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seed_oauth.envelopes.trace_context import Continued, request_trace
from seed_oauth.http import paths
from seed_oauth.telemetry.push import VERSION

WAIT = "login at the identity provider"
"""The span from the redirect to the identity provider until the browser is back."""

_UNTRACED = frozenset({paths.HEALTH, paths.READINESS})  # probes, every few seconds
_SERVER_ERROR = 500


class ServerSpans:
    """ASGI middleware that makes a span of each request, but for probes."""

    def __init__(self, app: ASGIApp, tracer_provider: TracerProvider) -> None:
        self._app = app
        self._tracer = tracer_provider.get_tracer("seed_oauth", VERSION)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request inside a span."""
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        span = RequestSpan(self._tracer, scope)

        async def send_and_tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.answered(message["status"])
            await send(message)

        context, trace = attach(set_span_in_context(span)), request_trace.set(span)
        try:
            await self._app(scope, receive, send_and_tell)
        except Exception as error:
            span.failed(type(error).__qualname__)
            raise
        finally:
            span.end()
            request_trace.reset(trace)
            detach(context)


class RequestSpan(NonRecordingSpan):
    """The current span of a request, which starts the span that is recorded; a `RequestTrace`."""

    def __init__(self, tracer: Tracer, scope: Scope) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self._tracer = tracer
        self._scope = scope
        self._began_at = time_ns()
        self._parent: SpanContext | None = None
        self._links: list[SpanContext] = []
        self._unused: SpanContext | None = None
        self._refreshed: bytes | None = None
        self._recorded: Span | None = None

    def get_span_context(self) -> SpanContext:
        """The context of the span, which starts now at the latest."""
        return self._span.get_span_context()

    @property
    def trace_id(self) -> str:
        """The trace id, in hexadecimal."""
        return f"{self.get_span_context().trace_id:032x}"

    def carried(self, continued: Continued) -> bytes:
        """What an envelope that is sealed now carries."""
        if self._refreshed is None:
            return _encoded(self.get_span_context())
        # The next refresh is linked to the login, too, and what it brings is not what the grant is first used with.
        return self._refreshed if continued is Continued.AS_LINK else b""

    def opened(self, continued: Continued, carried: bytes) -> None:
        """Go on with what an envelope has carried."""
        if continued is Continued.AS_PARENT:
            self._continue(_decoded(carried))
        elif continued is Continued.UNTIL_USED:
            self._unused = _decoded(carried)
        else:
            self._refreshed = carried
            self._link(_decoded(carried))

    def join_login(self) -> None:
        """Go on with the trace of the login that the access token came from."""
        if self._unused is not None:
            self._continue(self._unused)

    def waited(self, since: float) -> None:
        """Record the wait at the identity provider as a span of its own."""
        if self._parent is not None:
            began_at = min(int(since * 1e9), self._began_at)
            self._tracer.start_span(WAIT, self._parent_context, start_time=began_at).end(self._began_at)

    def answered(self, status: int) -> None:
        """Tell the status of the response."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR:
            self.failed(str(status))

    def failed(self, error_type: str) -> None:
        """Tell that the request has failed; no message, which could contain secrets."""
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self, end_time: int | None = None) -> None:
        """End the span, with the name of its route."""
        if (route := _route(self._scope)) is not None:
            self._span.update_name(f"{self._scope['method']} {route}")
            self._span.set_attribute("http.route", route)
        self._span.end(end_time)

    @property
    def _span(self) -> Span:
        if self._recorded is None:
            self._recorded = self._tracer.start_span(
                self._scope["method"],
                self._parent_context,
                SpanKind.SERVER,
                _attributes(self._scope),
                [Link(context) for context in (*self._links, _sent_with(self._scope)) if context.is_valid],
                self._began_at,
            )
        return self._recorded

    @property
    def _parent_context(self) -> Context:
        return Context() if self._parent is None else set_span_in_context(NonRecordingSpan(self._parent), Context())

    def _continue(self, login: SpanContext) -> None:
        if self._recorded is None:
            self._parent = login
        else:
            self._recorded.add_link(login)

    def _link(self, login: SpanContext) -> None:
        if self._recorded is None:
            self._links.append(login)
        else:
            self._recorded.add_link(login)


def _attributes(scope: Scope) -> dict[str, str | int]:
    """The attributes of OpenTelemetry's semantic conventions, without the query, which has codes and states."""
    url, (_, port) = URL(scope=scope), scope.get("server") or ("", None)
    attributes = {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        "server.address": url.hostname,
        "server.port": url.port or port,
        "network.protocol.version": scope.get("http_version"),
        "client.address": scope["client"][0] if scope.get("client") else None,
        "user_agent.original": Headers(scope=scope).get("user-agent"),
    }
    return {name: value for name, value in attributes.items() if value}


def _route(scope: Scope) -> str | None:
    route, root = scope.get("route"), scope.get("root_path", "")
    if isinstance(route, Mount):
        return root or None
    path = getattr(route, "path_format", None)
    return None if path is None else f"{root}{path}"


def _sent_with(scope: Scope) -> SpanContext:
    """The context of whoever sent the request, which may be anything, without its state, which may be long."""
    sent = get_current_span(propagate.extract(Headers(scope=scope), Context())).get_span_context()
    return SpanContext(sent.trace_id, sent.span_id, is_remote=True, trace_flags=sent.trace_flags)


def _encoded(context: SpanContext) -> bytes:
    """A trace context as an envelope carries it; none of a provider that makes no spans."""
    if not context.is_valid:
        return b""
    return bytes([context.trace_flags.sampled]) + context.trace_id.to_bytes(16) + context.span_id.to_bytes(8)


def _decoded(carried: bytes) -> SpanContext:
    trace_id, span_id = int.from_bytes(carried[1:17]), int.from_bytes(carried[17:])
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(carried[0]))
