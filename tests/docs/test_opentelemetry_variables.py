"""docs/reference/opentelemetry.md says what becomes of the variables of OpenTelemetry; each row is held here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import generate_latest

from seed_oauth import Pipeline, SettingsError
from seed_oauth.outcomes import AuthorizationOutcome
from seed_oauth.telemetry.push import exemplar_filter, push_readers, pushing_tracer_provider
from tests.certificates import authority_pem, serving
from tests.docs.pages import DOCS, code, expect, table
from tests.telemetry.otlp_receiver import receiving

PAGE = """\
# Variables of OpenTelemetry

Metrics and traces are pushed as the environment variables of the [OpenTelemetry
specification](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) say. This page lists
where they need an explanation. What cannot be done as asked stops the start with a message, instead of being ignored.
The scrape endpoint does not depend on them, except on `OTEL_SDK_DISABLED`.

"""

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
Check = Callable[[], None]


class Row(NamedTuple):
    """One line of the table: a setting, and what becomes of it."""

    setting: str
    specification: str
    here: str
    environment: Mapping[str, str]
    check: Check


def pushed(metrics: bool, traces: bool) -> Check:
    def check() -> None:
        readers = push_readers()
        for reader in readers:
            reader.shutdown()
        provider = pushing_tracer_provider(Resource.create())
        assert (bool(readers), not isinstance(provider, NoOpTracerProvider)) == (metrics, traces)

    return check


def refused(message: str) -> Check:
    def check() -> None:
        with pytest.raises(SettingsError, match=message):
            Pipeline()

    return check


def exemplars(kind: type, *, tracing: bool = True) -> Check:
    def check() -> None:
        assert type(exemplar_filter(tracing=tracing)) is kind

    return check


def nothing_is_recorded() -> None:
    pipeline = Pipeline()
    pipeline.telemetry.record(AuthorizationOutcome.REDIRECTED_TO_IDP)
    assert b"oauth_" not in generate_latest(pipeline.registry)
    pushed(metrics=False, traces=False)()


ROWS = [
    Row(
        "OTEL_SDK_DISABLED=true",
        "No signal has data.",
        "The same. The scrape is empty, too; the log has a warning at the start.",
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        nothing_is_recorded,
    ),
    Row(
        "OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER",
        "Unset: `otlp`, to `http://localhost:4318` unless an endpoint is set.",
        "Unset: only to an endpoint that is set.",
        {},
        pushed(metrics=False, traces=False),
    ),
    Row(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "Metrics and traces are pushed there.",
        "The same.",
        ENDPOINT,
        pushed(metrics=True, traces=True),
    ),
    Row(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "Only metrics are pushed there.",
        "The same.",
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"},
        pushed(metrics=True, traces=False),
    ),
    Row(
        "OTEL_METRICS_EXPORTER=otlp",
        "Without an endpoint, to `http://localhost:4318`.",
        "The same.",
        {"OTEL_METRICS_EXPORTER": "otlp"},
        pushed(metrics=True, traces=False),
    ),
    Row(
        "OTEL_METRICS_EXPORTER=None",
        "Nothing is pushed; names are compared without regard to case.",
        "The same.",
        {**ENDPOINT, "OTEL_METRICS_EXPORTER": "None"},
        pushed(metrics=False, traces=True),
    ),
    Row(
        "OTEL_METRICS_EXPORTER=prometheus",
        "Metrics can be scraped, and are not pushed.",
        "The same. They can be scraped in any case.",
        {**ENDPOINT, "OTEL_METRICS_EXPORTER": "prometheus"},
        pushed(metrics=False, traces=True),
    ),
    Row(
        "OTEL_METRICS_EXPORTER=otlp,prometheus",
        "Both, where lists are supported.",
        "Both.",
        {**ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp,prometheus"},
        pushed(metrics=True, traces=True),
    ),
    Row(
        "OTEL_METRICS_EXPORTER=console",
        "Metrics are written to standard output.",
        "Refused, because the log is there.",
        {**ENDPOINT, "OTEL_METRICS_EXPORTER": "console"},
        refused("OTEL_METRICS_EXPORTER must be one of none, otlp, prometheus"),
    ),
    Row(
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
        "Pushed by gRPC.",
        "Refused: every Collector also takes `http/protobuf`, on port 4318.",
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        refused("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"),
    ),
    Row(
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "That of the signal goes before `OTEL_EXPORTER_OTLP_PROTOCOL`.",
        "The same.",
        {
            **ENDPOINT,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        },
        pushed(metrics=True, traces=True),
    ),
    Row(
        "OTEL_METRICS_EXEMPLAR_FILTER=trace_based",
        "The default: exemplars for sampled spans.",
        "The same.",
        {"OTEL_METRICS_EXEMPLAR_FILTER": "trace_based"},
        exemplars(TraceBasedExemplarFilter),
    ),
    Row(
        "OTEL_METRICS_EXEMPLAR_FILTER=always_on",
        "Exemplars for all measurements.",
        "The same, without a trace where none is sampled.",
        {"OTEL_METRICS_EXEMPLAR_FILTER": "always_on"},
        exemplars(AlwaysOnExemplarFilter, tracing=False),
    ),
    Row(
        "OTEL_METRICS_EXEMPLAR_FILTER=always_off",
        "No exemplars.",
        "The same.",
        {"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"},
        exemplars(AlwaysOffExemplarFilter),
    ),
    Row(
        "OTEL_METRICS_EXEMPLAR_FILTER=sometimes",
        "An unknown value is ignored with a warning.",
        "Refused.",
        {"OTEL_METRICS_EXEMPLAR_FILTER": "sometimes"},
        refused("OTEL_METRICS_EXEMPLAR_FILTER must be one of always_on, always_off, trace_based"),
    ),
    Row(
        "OTEL_METRIC_EXPORT_INTERVAL=0",
        "Milliseconds; a value that cannot be used is ignored with a warning.",
        "Refused.",
        {**ENDPOINT, "OTEL_METRIC_EXPORT_INTERVAL": "0"},
        refused("OTEL_METRIC_EXPORT_INTERVAL must be a number of milliseconds above 0"),
    ),
    Row(
        "OTEL_METRIC_EXPORT_TIMEOUT=soon",
        "The same.",
        "Refused.",
        {**ENDPOINT, "OTEL_METRIC_EXPORT_TIMEOUT": "soon"},
        refused("OTEL_METRIC_EXPORT_TIMEOUT must be a number of milliseconds above 0"),
    ),
    Row(
        "OTEL_EXPORTER_OTLP_CERTIFICATE=/no/such/file",
        "-",
        "Refused, as are the client certificate and its key.",
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such/file"},
        refused("OTEL_EXPORTER_OTLP_CERTIFICATE is not a file that can be read"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.setting)
def test_a_variable_has_the_effect_that_the_table_says(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in row.environment.items():
        monkeypatch.setenv(name, value)
    row.check()


def test_a_disabled_sdk_is_told_in_the_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Pipeline()
    assert "OTEL_SDK_DISABLED" not in capsys.readouterr().out
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    Pipeline()
    assert "OTEL_SDK_DISABLED is set" in capsys.readouterr().out


CERTIFICATE = (
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "The authority that signed the Collector's certificate.",
    "The same, also where `REQUESTS_CA_BUNDLE` is set.",
)


@pytest.mark.parametrize("others", [{}, {"REQUESTS_CA_BUNDLE": "others.pem"}, {"CURL_CA_BUNDLE": "others.pem"}])
def test_the_certificate_of_the_collector_is_checked_with_the_authority_that_is_named(
    others: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours.pem").write_text(authority_pem())
    (tmp_path / "others.pem").write_text("")
    for variable, file in {"OTEL_EXPORTER_OTLP_CERTIFICATE": "ours.pem", **others}.items():
        monkeypatch.setenv(variable, str(tmp_path / file))
    with receiving(serving("127.0.0.1")) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        Pipeline().shutdown()
        assert "oauth_authorization_requests_total" in receiver.metrics()


def test_the_page_is_the_table() -> None:
    head = ("variable", "the specification says", "here")
    lines = [(", ".join(map(code, row.setting.split(", "))), row.specification, row.here) for row in ROWS]
    lines.append((code(CERTIFICATE[0]), *CERTIFICATE[1:]))
    expect(DOCS / "reference/opentelemetry.md", PAGE + table(head, *lines))
