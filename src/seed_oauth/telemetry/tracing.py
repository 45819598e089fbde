"""Whether there is tracing, and exemplars: which trace a measurement belongs to."""

from collections.abc import Callable

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

_NO_TRACE = Context()


def is_tracing(tracer_provider: TracerProvider) -> bool:
    """Whether spans are exported."""
    return not isinstance(tracer_provider, NoOpTracerProvider)


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
