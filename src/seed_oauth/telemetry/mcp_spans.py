"""Spans of the operations of an MCP server, by the same conventions as `mcp_operations`.

A client says in `params._meta` which span of its own an operation belongs to (SEP-414). That one becomes the parent and
the HTTP request a link, as the conventions want it. The client's sampled flag is left out, as in `server_spans`: the
operator's sampler decides. A span is made when its operation ends, because only then is it known which one it was.
"""

import re
from collections.abc import Callable
from time import time_ns

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
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

from seed_oauth.telemetry.mcp_operations import OTHER
from seed_oauth.telemetry.push import VERSION

# W3C Trace Context §3.2.2, version 00.
_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class McpSpans:
    """Makes the spans of operations."""

    def __init__(self, tracer_provider: TracerProvider) -> None:
        # Imported late, as in `push`.
        from opentelemetry.sdk.trace import Tracer as SdkTracer  # noqa: PLC0415

        self._tracer = tracer_provider.get_tracer("seed_oauth", VERSION)
        self._sdk = self._tracer if isinstance(self._tracer, SdkTracer) else None

    def begin(self) -> "McpSpan":
        """An operation begins now, inside the span of its HTTP request if there is one."""
        return McpSpan(self._tracer, self.samples)

    def samples(self, http: SpanContext, name: str) -> bool:
        """What the operator's sampler says of an HTTP request, or of a trace that begins here if that has no span."""
        if http.is_valid or self._sdk is None:
            return http.trace_flags.sampled
        # Not for the client's trace id: whoever chooses it would choose what a ratio samples.
        trace_id = self._sdk.id_generator.generate_trace_id()
        decision = self._sdk.sampler.should_sample(None, trace_id, name, SpanKind.SERVER).decision
        return bool(decision.is_sampled())  # type: ignore[no-untyped-call]


class McpSpan:
    """The span of one operation."""

    def __init__(self, tracer: Tracer, samples: Callable[[SpanContext, str], bool]) -> None:
        self._tracer = tracer
        self._samples = samples
        self._began_in = get_current()
        self._began_at = time_ns()

    def end(self, method: str, tool: str | None, error: str | None, version: str, *, traceparent: object) -> None:
        """The operation ends now. `traceparent` is that of `params._meta`, which may be anything.

        The others are as for `McpOperations.record`: whatever a client names must be from a closed list.
        """
        name = method if tool in (None, OTHER) else f"{method} {tool}"
        client, context, links = _parsed(traceparent), self._began_in, []
        if client.is_valid:
            http = get_current_span(self._began_in).get_span_context()
            if not self._samples(http, name):
                return
            context = set_span_in_context(NonRecordingSpan(client), Context())
            links = [Link(http)] if http.is_valid else []
        attributes = _attributes(method, tool, error, version)
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes, links, self._began_at)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def _parsed(traceparent: object) -> SpanContext:
    """The client's span, not valid if there is none. It counts as sampled: only what is sampled becomes its child."""
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if found is None:
        return INVALID_SPAN_CONTEXT
    trace_id, span_id = (int(part, 16) for part in found.groups())
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _attributes(method: str, tool: str | None, error: str | None, version: str) -> dict[str, str]:
    """The attributes of the conventions but for the ids of the request, which a client makes up, and of the session.

    Servers know a session by its id alone, so that is treated like a credential.
    """
    attributes = {
        "mcp.method.name": method,
        "gen_ai.operation.name": None if tool is None else "execute_tool",
        "gen_ai.tool.name": None if tool == OTHER else tool,
        "mcp.protocol.version": None if version == OTHER else version,
        "error.type": error,
    }
    return {name: value for name, value in attributes.items() if value is not None}
