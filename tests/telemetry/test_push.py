"""What is on the wire when metrics are pushed by OTLP."""

from math import isfinite

import pytest

from seed_oauth import Pipeline
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry.contract import IdpOutcome
from tests.telemetry.otlp_receiver import receiving


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_a_histogram_has_a_real_minimum_and_maximum(monkeypatch: pytest.MonkeyPatch, temporality: str) -> None:
    """Without them the SDK sends Infinity (opentelemetry-python 5570), which some vendors refuse."""
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
        pipeline = Pipeline()
        for seconds in 0.3, 0.1, 0.7:
            pipeline.telemetry.record_exchange(GrantType.REFRESH_TOKEN, IdpOutcome.OK, seconds)
        pipeline.shutdown()
    histograms = {name: metric.histogram for name, metric in receiver.metrics().items() if metric.HasField("histogram")}
    (exchange,) = histograms["oauth_token_exchange_duration_seconds"].data_points
    assert (exchange.count, exchange.min, exchange.max) == (3, 0.1, 0.7)
    for name, histogram in histograms.items():
        for point in histogram.data_points:
            assert isfinite(point.min), name
            assert isfinite(point.max), name
            assert isfinite(point.sum), name
