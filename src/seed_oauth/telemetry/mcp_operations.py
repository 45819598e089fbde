"""The operations of an MCP server, by OpenTelemetry's semantic conventions for MCP, version 1.44.0 (in development).

It deviates in one point: the protocol version has a counter of its own, because as another label of the histogram it
would multiply the series.
"""

from collections import Counter, deque
from collections.abc import Callable
from functools import cache

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from seed_oauth.telemetry.instruments import BATCH_SIZE, taken_from

DURATION = "mcp.server.operation.duration"
REQUESTS = "seed_oauth_mcp_requests_total"
OTHER = "_other"
"""The label value for whatever is not in a closed list."""

_LABELS = "mcp.method.name", "gen_ai.tool.name", "error.type"
_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_MOST_LABEL_SETS = 24
"""Those of 20 tools and 4 methods. Each has 17 series, and whatever is beyond comes under `otel_metric_overflow`, so
that an instance keeps under 1,000 series however many tools fail."""

PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
"""The versions of MCP that `MCP-Protocol-Version` may name."""

VIEW = View(
    instrument_name=DURATION,
    aggregation=ExplicitBucketHistogramAggregation(_BUCKETS),
    aggregation_cardinality_limit=_MOST_LABEL_SETS,
)


class McpOperations:
    """Records operations in batches, as `Telemetry` does with outcomes.

    Whatever a client names must be from a closed list when it comes here.
    """

    def __init__(
        self, meter: Meter, context: Callable[[], Context] = Context, on_record: Callable[[], None] | None = None
    ) -> None:
        """`context` and `on_record` are as `context` and `on_outcome` of `Telemetry`."""
        self._duration = meter.create_histogram(DURATION, unit="s", description="Duration of MCP operations")
        self._requests = meter.create_counter(REQUESTS, description="Requests to the MCP server, by protocol version")
        for version in (*PROTOCOL_VERSIONS, OTHER):
            self._requests.add(0, {"protocol_version": version})
        self.open_streams = 0
        """The number of event streams that are open."""
        self._context = context
        self._on_record = on_record
        self._buffered: deque[tuple[str, str | None, str | None, str, float, Context]] = deque()

    def record(self, seconds: float, method: str, tool: str | None, error: str | None, version: str) -> None:
        """Record one operation that took `seconds`; `error` is its `error.type`, None if it succeeded."""
        self._buffered.append((method, tool, error, version, seconds, self._context()))
        if self._on_record is not None:
            self.flush()
            self._on_record()
        elif len(self._buffered) >= BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Record the buffered operations in the instruments."""
        versions: Counter[str] = Counter()
        for method, tool, error, version, seconds, context in taken_from(self._buffered):
            self._duration.record(seconds, _attributes(method, tool, error), context)
            versions[version] += 1
        for version, times in versions.items():
            self._requests.add(times, {"protocol_version": version})


@cache
def _attributes(*values: str | None) -> dict[str, str]:
    return {name: value for name, value in zip(_LABELS, values, strict=True) if value is not None}
