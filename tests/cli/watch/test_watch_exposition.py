"""Parsing the text of a metrics listener, and the errors for other texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from seed_oauth.cli.watch import WatchError, parse

OURS = 'oauth_token_exchanges_total{grant_type="refresh_token",result="success"} 3.0\n'


def test_samples_keep_their_names() -> None:
    snapshot = parse(f"# TYPE oauth_token_exchanges_total counter\n{OURS}", taken_at=7.0)
    assert snapshot.samples.total("oauth_token_exchanges_total", result="success") == 3
    assert snapshot.taken_at == 7.0


def test_other_series_are_ignored() -> None:
    snapshot = parse(OURS + "process_cpu_seconds_total 12.5\n")
    assert snapshot.samples.total("process_cpu_seconds_total") == 0


def test_a_bucket_bound_has_one_form_for_all_exporters() -> None:
    name = "oauth_token_exchange_duration_seconds_bucket"
    collector = parse(f'{name}{{le="1"}} 2\n{name}{{le="+Inf"}} 2\n').samples
    exporter = parse(f'{name}{{le="1.0"}} 5\n{name}{{le="+Inf"}} 5\n').samples
    increase = exporter.increase_since(collector).histogram("oauth_token_exchange_duration_seconds")
    assert increase.cumulative == (3, 3)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1"])
def test_a_value_that_is_not_a_count_is_ignored(value: str) -> None:
    snapshot = parse(OURS + f'oauth_token_exchanges_total{{result="failure"}} {value}\n')
    assert snapshot.samples.total("oauth_token_exchanges_total") == 3


@pytest.mark.parametrize(
    "text",
    [
        "<!doctype html><title>Welcome</title>",
        '{"status": "ok"}',
        "hello world",
        "{}",
        'oauth_token_exchanges_total{result="success" 3',
        'oauth_token_exchange_duration_seconds_bucket{le="soon"} 1',
    ],
)
def test_a_text_that_is_not_an_exposition_is_refused_with_advice(text: str) -> None:
    with pytest.raises(WatchError, match="not a Prometheus exposition") as refusal:
        parse(text, source="http://127.0.0.1:8000/")
    assert str(refusal.value).startswith("http://127.0.0.1:8000/ is not the metrics listener of seed_oauth: ")
    assert "usually http://127.0.0.1:9464/metrics" in str(refusal.value)
    assert "SEED_OAUTH_METRICS_HOST and SEED_OAUTH_METRICS_PORT" in str(refusal.value)


def test_the_exposition_of_something_else_is_refused_with_advice() -> None:
    registry = CollectorRegistry()
    Counter("http_requests_total", "Of another program", registry=registry).inc()
    with pytest.raises(WatchError, match="has no oauth_authorization_requests_total"):
        parse(generate_latest(registry).decode())


def test_an_empty_answer_is_refused_with_advice() -> None:
    with pytest.raises(WatchError, match="9464"):
        parse("")


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from([*'{}=,"\\\n #', "oauth_errors_total", "le", "1", "# TYPE", "# HELP"])).map("".join),
    )
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except WatchError as refusal:
        assert "9464" in str(refusal)  # noqa: PT017 - a text may be fine, too
