"""The page of the metrics listener: the flow of the last hours in a browser, without Prometheus and Grafana."""

from seed_oauth.telemetry.page.app import MetricsPage

__all__ = ["MetricsPage"]
