"""The operations of an MCP server, by OpenTelemetry's semantic conventions for MCP, version 1.44.0 (in development).

It deviates in one point: the protocol version has a counter of its own, because as another label of the histogram it
would multiply the series.
"""

from collections.abc import Callable

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

DURATION = "mcp.server.operation.duration"
REQUESTS = "seed_oauth_mcp_requests_total"
OTHER = "_other"
"""The label value for whatever is not in a closed list."""

_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_MOST_LABEL_SETS = 40  # each has 17 series; whatever is beyond comes under `otel_metric_overflow`

PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
"""The versions of MCP that `MCP-Protocol-Version` may name."""

VIEW = View(
    instrument_name=DURATION,
    aggregation=ExplicitBucketHistogramAggregation(_BUCKETS),
    aggregation_cardinality_limit=_MOST_LABEL_SETS,
)


class McpOperations:
    """Records operations. Whatever a client names must be from a closed list when it comes here."""

    def __init__(self, meter: Meter, on_record: Callable[[], None]) -> None:
        """`on_record` is called after each operation."""
        self._duration = meter.create_histogram(DURATION, unit="s", description="Duration of MCP operations")
        self._requests = meter.create_counter(REQUESTS, description="Requests to the MCP server, by protocol version")
        for version in (*PROTOCOL_VERSIONS, OTHER):
            self._requests.add(0, {"protocol_version": version})
        self._on_record = on_record

    def record(self, seconds: float, method: str, tool: str | None, error: str | None, version: str) -> None:
        """Record one operation that took `seconds`; `error` is its `error.type`, None if it succeeded."""
        labels = {"mcp.method.name": method, "gen_ai.tool.name": tool, "error.type": error}
        self._duration.record(seconds, {name: value for name, value in labels.items() if value is not None})
        self._requests.add(1, {"protocol_version": version})
        self._on_record()
