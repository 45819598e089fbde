"""OTLP push beside the pull: switched on by OpenTelemetry's own environment variables."""

import os
from threading import Thread
from time import monotonic
from urllib.parse import urlsplit

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from seed_oauth.settings import SettingsError

SHUTDOWN_TIMEOUT = 3.0
"""Seconds that the last push of a process may take. A worker's and then the supervisor's come after the 30 of requests
under way, and all of it fits into the 40 that compose.yaml and Kubernetes give."""


def push_readers() -> list[MetricReader]:
    """A reader that pushes to OTEL_EXPORTER_OTLP_ENDPOINT, or none where that is not set.

    How often is for OTEL_METRIC_EXPORT_INTERVAL (milliseconds) to say, and the other standard variables
    hold, too. It collects and sends in a thread of its own, so a Collector that is slow or gone costs the
    requests nothing; and as values are cumulative, nothing piles up meanwhile.

    Raises:
        SettingsError: the endpoint or the protocol cannot be used.
    """
    if not _is_wanted("METRICS"):
        return []
    # Imported late: most servers are scraped, and start faster without it.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return [PeriodicExportingMetricReader(OTLPMetricExporter())]


def pushing_tracer_provider(resource: Resource) -> TracerProvider:
    """One whose spans are pushed to OTEL_EXPORTER_OTLP_ENDPOINT, or one without spans where that is not set.

    Raises:
        SettingsError: the endpoint or the protocol cannot be used.
    """
    if not _is_wanted("TRACES"):
        return NoOpTracerProvider()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = SdkTracerProvider(resource=resource, shutdown_on_exit=False)
    # Its queue is bounded: with the Collector gone, spans are dropped and nothing waits.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def shut_down(*providers: MeterProvider | TracerProvider) -> None:
    """Push what is new, for as long as `SHUTDOWN_TIMEOUT`; after that it is lost.

    The SDK has a timeout for metrics alone, and waits for spans as long as they are tried again.
    """
    pushing = [Thread(target=provider.shutdown, daemon=True) for provider in providers if hasattr(provider, "shutdown")]
    for thread in pushing:
        thread.start()
    until = monotonic() + SHUTDOWN_TIMEOUT
    for thread in pushing:
        thread.join(max(0, until - monotonic()))


def _is_wanted(signal: str) -> bool:
    """Whether the environment asks for pushing METRICS or TRACES, and can be followed."""
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    variable = next((name for name in variables if os.environ.get(name)), None)
    if variable is None or os.environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return False
    _check_endpoint(variable, os.environ[variable])
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            raise SettingsError(f"{name} must be http/protobuf: send to the Collector's port 4318")
    return True


def _check_endpoint(variable: str, endpoint: str) -> None:
    try:
        url = urlsplit(endpoint)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{variable} is not a URL: write http://host:4318, the Collector's OTLP/HTTP endpoint")
