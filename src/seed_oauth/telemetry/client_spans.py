"""Spans of the requests to the MCP server, which hand the trace on to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, set_span_in_context

from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.telemetry.push import VERSION

TRACE_FIELDS = frozenset({b"traceparent", b"tracestate"})
"""The header fields of the trace that somebody else's request belongs to (W3C Trace Context)."""

_CLIENT_ERROR = 400


class ClientSpan:
    """The span of one request, until its response begins."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        """What hands the trace on, as OTEL_PROPAGATORS says."""
        propagate.inject(self.headers, set_span_in_context(span))

    def answered(self, status: int) -> None:
        """Tell the status of the response."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= _CLIENT_ERROR:
            self.failed(str(status))

    def failed(self, error_type: str) -> None:
        """Tell that the request has failed."""
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))


class ClientSpans:
    """Makes the spans of the requests to one server."""

    def __init__(self, tracer_provider: TracerProvider, url: str) -> None:
        """`url` is that of the server. The query of a request is left out: there may be a key in it."""
        self._tracer = tracer_provider.get_tracer("seed_oauth", VERSION)
        parts = urlsplit(url)
        self._attributes: dict[str, str | int] = {
            "url.full": url,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }

    @contextmanager
    def request(self, method: str) -> Iterator[ClientSpan]:
        """The span of a request, which is a child of the current one."""
        attributes = {**self._attributes, "http.request.method": method}
        recorded = self._tracer.start_span(method, kind=SpanKind.CLIENT, attributes=attributes)
        span = ClientSpan(recorded)
        try:
            yield span
        except BaseException as error:
            span.failed(error.outcome.reason if isinstance(error, OAuthError) else type(error).__qualname__)
            raise
        finally:
            recorded.end()
