"""Exemplars in a scrape: the trace of a measurement in each bucket. OpenTelemetry's exporter leaves them out."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

Key = tuple[str, frozenset[tuple[str, str]]]
"""A bucket: the name of its histogram without the unit, and its labels with `le`."""


class ExemplarReader(PrometheusMetricReader):
    """A pull reader that keeps the newest exemplar of each bucket, for scrapers that accept OpenMetrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._exemplars: dict[Key, Exemplar] = {}
        exported = CollectorRegistry(auto_describe=False)
        # Without scope info the series have exactly the labels of the contract.
        super().__init__(scope_info_enabled=False, registry=exported)
        registry.register(_WithExemplars(exported, self._exemplars))

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        for name, point in _histogram_points(metrics_data):
            # The SDK hands each exemplar out once, and other scrapers want it, too.
            for exemplar in point.exemplars:
                if exemplar.trace_id is None or exemplar.span_id is None:
                    continue
                le = (*map(str, point.explicit_bounds), "+Inf")[bisect_left(point.explicit_bounds, exemplar.value)]
                trace = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
                self._exemplars[_key(name, {**(point.attributes or {}), "le": le})] = Exemplar(
                    trace, exemplar.value, exemplar.time_unix_nano / 1e9
                )
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)


class _WithExemplars(Collector):
    def __init__(self, exported: CollectorRegistry, exemplars: dict[Key, Exemplar]) -> None:
        self._exported = exported
        self._exemplars = exemplars

    def collect(self) -> Iterable[Metric]:
        for metric in self._exported.collect():
            if self._exemplars and metric.type == "histogram":
                metric.samples = [
                    sample._replace(exemplar=self._exemplars.get(_key(metric.name, sample.labels)))
                    for sample in metric.samples
                ]
            yield metric


def _histogram_points(metrics_data: MetricsData | None) -> Iterator[tuple[str, HistogramDataPoint]]:
    for resource in metrics_data.resource_metrics if metrics_data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if isinstance(point, HistogramDataPoint):
                        yield metric.name, point


def _key(name: str, labels: Mapping[str, object]) -> Key:
    """The same for a name and labels of OpenTelemetry and of Prometheus."""
    # A label that one point lacks and another has is shown empty.
    shown = frozenset((label.replace(".", "_"), str(value)) for label, value in labels.items() if value != "")
    return name.replace(".", "_").removesuffix("_seconds"), shown
