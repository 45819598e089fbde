"""Traces: spans of incoming requests, pushed by OTLP; without the query, which contains codes and states."""

from collections.abc import Callable, MutableMapping
from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    SpanContext,
    TraceFlags,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth.http import paths

_QUERY = "seed_oauth.query_string"
_UNTRACED = frozenset({paths.HEALTH, paths.READINESS})  # probes, every few seconds
_NO_TRACE = Context()


def is_tracing(tracer_provider: TracerProvider) -> bool:
    """Whether spans are exported."""
    return not isinstance(tracer_provider, NoOpTracerProvider)


class ServerSpans:
    """ASGI middleware: Starlette's own, with the query hidden from it because it writes `url.query` into the span."""

    def __init__(self, app: ASGIApp, tracer_provider: TracerProvider) -> None:
        async def with_query(scope: Scope, receive: Receive, send: Send) -> None:
            scope["query_string"] = scope.pop(_QUERY, scope.get("query_string"))
            await app(scope, receive, send)

        self._app = app
        self._spans = OpenTelemetryMiddleware(with_query, tracer_provider=tracer_provider)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request inside a span, unless it is a probe."""
        if scope["type"] == "http":
            if scope["path"] in _UNTRACED:
                await self._app(scope, receive, send)
                return
            _hide_query(scope)
        await self._spans(scope, receive, send)


def _hide_query(scope: MutableMapping[str, Any]) -> None:
    scope[_QUERY] = scope["query_string"]
    scope["query_string"] = b""


def context_source(tracer_provider: TracerProvider) -> Callable[[], Context]:
    """Returns the context that links a measurement to its trace as an exemplar; empty without tracing."""
    # Never None: an instrument would then look up the current context.
    return get_current if is_tracing(tracer_provider) else lambda: _NO_TRACE


def exemplar_of(context: Context | None) -> list[str] | None:
    """Trace and span id of a context, to be sent to another process; None if it is not sampled."""
    span = get_current_span(context).get_span_context()
    # In hexadecimal, because a trace id has more than 64 bits.
    return [f"{span.trace_id:032x}", f"{span.span_id:016x}"] if span.trace_flags.sampled else None


def context_of(exemplar: list[str] | None) -> Context | None:
    """The context of a measurement in another process."""
    if exemplar is None:
        return None
    trace_id, span_id = (int(part, 16) for part in exemplar)
    span = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(span))
