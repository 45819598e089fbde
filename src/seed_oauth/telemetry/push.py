"""OTLP push in addition to scrapes and files, configured by the environment variables of OpenTelemetry."""

import os
from importlib.metadata import version
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from seed_oauth.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider

VERSION = version("seed-oauth")

SHUTDOWN_TIMEOUT = 3.0
"""Seconds allowed for the last push of a process. Draining requests takes up to 30 s; then a worker and the supervisor
push. Together this fits into the 40 s that compose.yaml and Kubernetes allow."""


def push_readers() -> list[MetricReader]:
    """A reader that pushes to OTEL_EXPORTER_OTLP_ENDPOINT, or none if that is not set.

    OTEL_METRIC_EXPORT_INTERVAL (milliseconds) and the other standard variables apply. The reader has its own thread,
    so a slow or unreachable Collector does not delay requests; cumulative values need no queue.

    Raises:
        SettingsError: the endpoint or the protocol is invalid.
    """
    if not _is_wanted("METRICS"):
        return []
    # Imported late: most servers are scraped and start faster without it.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return [PeriodicExportingMetricReader(OTLPMetricExporter())]


def pushing_tracer_provider(resource: Resource) -> TracerProvider:
    """A provider that pushes spans to OTEL_EXPORTER_OTLP_ENDPOINT, or a no-op one if that is not set.

    Raises:
        SettingsError: the endpoint or the protocol is invalid.
    """
    if not _is_wanted("TRACES"):
        return NoOpTracerProvider()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = SdkTracerProvider(resource=resource, shutdown_on_exit=False)
    # The queue is bounded: while the Collector is unreachable, spans are dropped.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def pushing_logger_provider() -> "LoggerProvider":
    """A provider that pushes OpenTelemetry logs to OTEL_EXPORTER_OTLP_ENDPOINT.

    Raises:
        SettingsError: there is no endpoint, or it or the protocol is invalid.
    """
    if not _is_wanted("LOGS"):
        raise SettingsError("SEED_OAUTH_AUDIT_LOG=otlp needs OTEL_EXPORTER_OTLP_ENDPOINT, the Collector's endpoint")
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter  # noqa: PLC0415
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

    provider = LoggerProvider(resource=own_resource(), shutdown_on_exit=False)
    # The queue is bounded: while the Collector is unreachable, records are dropped. A file keeps them.
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    return provider


def shut_down(*providers: "MeterProvider | TracerProvider | LoggerProvider") -> None:
    """Push the latest data within `SHUTDOWN_TIMEOUT`; what remains is lost.

    The SDK has a timeout for metrics only; for spans it waits for all retries.
    """
    pushing = [Thread(target=provider.shutdown, daemon=True) for provider in providers if hasattr(provider, "shutdown")]
    for thread in pushing:
        thread.start()
    until = monotonic() + SHUTDOWN_TIMEOUT
    for thread in pushing:
        thread.join(max(0, until - monotonic()))


def own_resource() -> Resource:
    """The OpenTelemetry resource; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the name."""
    named = Resource.create()
    ours = {SERVICE_VERSION: VERSION}
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        ours[SERVICE_NAME] = "seed-oauth"
    return named.merge(Resource(ours))


def _is_wanted(signal: str) -> bool:
    """Whether the environment configures a push of METRICS, TRACES or LOGS."""
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    variable = next((name for name in variables if os.environ.get(name)), None)
    if variable is None or os.environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return False
    _check_endpoint(variable, os.environ[variable])
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            raise SettingsError(f"{name} must be http/protobuf: use the Collector's port 4318")
    return True


def _check_endpoint(variable: str, endpoint: str) -> None:
    try:
        url = urlsplit(endpoint)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{variable} is not a URL: write http://host:4318, the Collector's OTLP/HTTP endpoint")
