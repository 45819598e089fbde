"""OTLP push in addition to scrapes and files, configured by the environment variables of OpenTelemetry."""

import os
from importlib.metadata import version
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from seed_oauth.settings import SettingsError

if TYPE_CHECKING:
    import requests
    from opentelemetry.sdk._logs import LoggerProvider

VERSION = version("seed-oauth")

_EXEMPLAR_FILTERS: dict[str, type[ExemplarFilter]] = {
    "always_on": AlwaysOnExemplarFilter,
    "always_off": AlwaysOffExemplarFilter,
    "trace_based": TraceBasedExemplarFilter,
}

SHUTDOWN_TIMEOUT = 3.0
"""Seconds allowed for the last push of a process. Draining requests takes up to 30 s; then a worker and the supervisor
push. Together this fits into the 40 s that compose.yaml and Kubernetes allow."""


def push_readers() -> list[MetricReader]:
    """A reader that pushes to OTEL_EXPORTER_OTLP_ENDPOINT, or none if that is not set.

    OTEL_METRIC_EXPORT_INTERVAL (milliseconds) and the other standard variables apply. The reader has its own thread,
    so a slow or unreachable Collector does not delay requests; cumulative values need no queue.

    Raises:
        SettingsError: a variable of OpenTelemetry has a value that cannot be used.
    """
    if not _is_wanted("METRICS"):
        return []
    for name in ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"):
        _check_milliseconds(name)
    # Imported late: most servers are scraped and start faster without it.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return [PeriodicExportingMetricReader(OTLPMetricExporter(session=_session()))]


def pushing_tracer_provider(resource: Resource) -> TracerProvider:
    """A provider that pushes spans to OTEL_EXPORTER_OTLP_ENDPOINT, or a no-op one if that is not set.

    Raises:
        SettingsError: a variable of OpenTelemetry has a value that cannot be used.
    """
    if not _is_wanted("TRACES"):
        return NoOpTracerProvider()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = SdkTracerProvider(resource=resource, shutdown_on_exit=False)
    # The queue is bounded: while the Collector is unreachable, spans are dropped.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=_session())))
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
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(session=_session())))
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


def is_disabled() -> bool:
    """Whether OTEL_SDK_DISABLED leaves every signal without data, the scrape too."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exemplar_filter(*, tracing: bool) -> ExemplarFilter:
    """What OTEL_METRICS_EXEMPLAR_FILTER says.

    Raises:
        SettingsError: it says something else.
    """
    wanted = os.environ.get("OTEL_METRICS_EXEMPLAR_FILTER", "").strip().lower() or "trace_based"
    if wanted not in _EXEMPLAR_FILTERS:
        raise SettingsError(f"OTEL_METRICS_EXEMPLAR_FILTER must be one of {', '.join(_EXEMPLAR_FILTERS)}")
    # Without tracing no measurement belongs to a trace, and a filter that is off costs less.
    return AlwaysOffExemplarFilter() if wanted == "trace_based" and not tracing else _EXEMPLAR_FILTERS[wanted]()


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
    # The scrape endpoint is always there, so prometheus means that nothing is pushed.
    exporters = {name.strip().lower() for name in os.environ.get(f"OTEL_{signal}_EXPORTER", "").split(",")} - {""}
    known = {"otlp", "none"} | ({"prometheus"} if signal == "METRICS" else set())
    if exporters - known:
        raise SettingsError(f"OTEL_{signal}_EXPORTER must be one of {', '.join(sorted(known))}")
    if is_disabled() or "otlp" not in (exporters or ({"otlp"} if variable else set())):
        return False
    if variable is not None:
        _check_endpoint(variable, os.environ[variable])
    protocols = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((name for name in protocols if os.environ.get(name)), None)
    if protocol is not None and os.environ[protocol] != "http/protobuf":
        raise SettingsError(f"{protocol} must be http/protobuf: use the Collector's port 4318")
    _check_files(signal)
    return True


def _check_milliseconds(variable: str) -> None:
    value = os.environ.get(variable, "").strip()
    if value and (not value.isdecimal() or int(value) == 0):
        raise SettingsError(f"{variable} must be a number of milliseconds above 0")


def _check_files(signal: str) -> None:
    """Certificates and keys: the exporter would only find at its first push that one is missing."""
    for kind in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        for variable in (f"OTEL_EXPORTER_OTLP_{signal}_{kind}", f"OTEL_EXPORTER_OTLP_{kind}"):
            if (path := os.environ.get(variable)) and not os.access(path, os.R_OK):
                raise SettingsError(f"{variable} is not a file that can be read")


def _session() -> "requests.Session":
    import requests  # noqa: PLC0415 - as above: late

    class Session(requests.Session):
        """Verifies with OTEL_EXPORTER_OTLP_CERTIFICATE, to which requests prefers REQUESTS_CA_BUNDLE (issue 3829)."""

        def merge_environment_settings(self, url, proxies, stream, verify, cert):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            verify = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, verify, cert)

    return Session()


def _check_endpoint(variable: str, endpoint: str) -> None:
    try:
        url = urlsplit(endpoint)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{variable} is not a URL: write http://host:4318, the Collector's OTLP/HTTP endpoint")
