"""Metrics, traces and logs: the only folder that imports opentelemetry."""

from seed_oauth.telemetry.exposition import create_metrics_app
from seed_oauth.telemetry.instruments import Telemetry
from seed_oauth.telemetry.page import MetricsPage
from seed_oauth.telemetry.pipeline import ForwardingPipeline, Pipeline, Recording

__all__ = ["ForwardingPipeline", "MetricsPage", "Pipeline", "Recording", "Telemetry", "create_metrics_app"]
