"""The view of an instance with real instruments, at several widths."""

import io
import re
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from seed_oauth.cli.watch import FlowState, parse, render
from seed_oauth.cli.watch.charts import NOTHING
from seed_oauth.outcomes import AuthorizationOutcome, Outcome, RegistrationOutcome, ResourceOutcome, TokenOutcome
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CONSENT_DECISIONS,
    CONTRACT,
    DCR_REGISTRATIONS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUEST_DURATION,
    IDP_REQUESTS,
    RESOURCE_REQUESTS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
    error_attributes,
)
from seed_oauth.telemetry.series import Series
from seed_oauth.telemetry.steps import Step


class Instance:
    """The instruments of the contract, with the exposition of a running instance."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._provider = MeterProvider(
            [PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)],
            views=[
                View(
                    instrument_name=series.name,
                    aggregation=ExplicitBucketHistogramAggregation(series.buckets),
                )
                for series in CONTRACT
                if series.buckets
            ],
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter("test")
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for series in CONTRACT:
            if series.buckets:
                self._histograms[series.name] = meter.create_histogram(series.name, unit=series.unit)
            else:
                self._counters[series.name] = meter.create_counter(series.name)
                for labels in series.known:
                    self._counters[series.name].add(0, labels)

    def count(self, series: Series, times: int = 1, **labels: str) -> None:
        self._counters[series.name].add(times, labels)

    def fail(self, outcome: Outcome, times: int = 1) -> None:
        self._counters[ERRORS.name].add(times, error_attributes(outcome))

    def exchange(self, grant_type: str, seconds: float, *, times: int = 1, outcome: str = "ok") -> None:
        result = "success" if outcome == "ok" else "failure"
        self.count(TOKEN_EXCHANGES, times, grant_type=grant_type, result=result)
        self.count(IDP_REQUESTS, times, operation="token", outcome=outcome)
        for _ in range(times):
            self._histograms[TOKEN_EXCHANGE_DURATION.name].record(seconds, {"grant_type": grant_type})
            self._histograms[IDP_REQUEST_DURATION.name].record(seconds, {"operation": "token", "outcome": outcome})

    def step(self, step: Step, times: int) -> None:
        self.count(FLOW_STEPS, times, step=step.value, client_family="claude")

    def come_back(self, seconds: float, times: int) -> None:
        self.count(CALLBACKS, times, result="success")
        for _ in range(times):
            self._histograms[AUTHORIZATION_WAIT.name].record(seconds)

    def exposition(self) -> str:
        return generate_latest(self._registry).decode()

    def stop(self) -> None:
        self._provider.shutdown()


@pytest.fixture
def instance() -> Iterator[Instance]:
    instance = Instance()
    yield instance
    instance.stop()


@pytest.fixture
def flow(instance: Instance) -> FlowState:
    """Ten seconds of traffic, after some before the first snapshot."""
    flow = FlowState()
    instance.count(AUTHORIZATION_REQUESTS, 1000, result="success")
    flow.add(parse(instance.exposition(), taken_at=0))
    instance.count(AUTHORIZATION_REQUESTS, 16, result="success")
    instance.count(AUTHORIZATION_REQUESTS, 3, result="error")
    instance.fail(AuthorizationOutcome.BAD_CODE_CHALLENGE_METHOD, 2)
    instance.fail(AuthorizationOutcome.CANCELLED)
    instance.count(AUTHORIZATION_REQUESTS, 1, result="invalid_client")
    instance.fail(AuthorizationOutcome.UNKNOWN_CLIENT)
    instance.count(DCR_REGISTRATIONS, 3, result="success")
    instance.count(DCR_REGISTRATIONS, 1, result="error")
    instance.fail(RegistrationOutcome.STORE_FAILED)
    instance.exchange("authorization_code", 0.3, times=9)
    instance.exchange("authorization_code", 7.0, outcome="timeout")
    instance.fail(TokenOutcome.IDP_TIMEOUT)
    instance.exchange("refresh_token", 0.05, times=5)
    for step, times in zip(Step, (30, 8, 7, 3, 20, 8, 15, 12, 9, 6, 5, 3, 1), strict=True):
        instance.step(step, times)
    instance.count(RESOURCE_REQUESTS, 90, result="allowed")
    instance.count(CONSENT_DECISIONS, 8, decision="approved")
    instance.count(CONSENT_DECISIONS, 2, decision="denied")
    instance.come_back(20, times=10)
    instance.come_back(90, times=2)
    instance.count(CALLBACKS, 3, result="error")
    flow.add(parse(instance.exposition(), taken_at=10))
    return flow


def lines(flow: FlowState, width: int, height: int | None = None, *, trouble: str | None = None) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True)
    options = console.options.update(height=height)
    view = render(flow, title="the title", footer="the footer", trouble=trouble)
    drawn = console.render_lines(view, options, pad=False)
    return "\n".join("".join(segment.text for segment in line) for line in drawn).rstrip().split("\n")


def line_with(flow: FlowState, width: int, *parts: str) -> str:
    """The only line with all these parts, with single spaces between its columns."""
    (line,) = (line for line in lines(flow, width) if all(part in line for part in parts))
    return " ".join(line.split())


@pytest.mark.parametrize("width", [80, 120])
def test_every_part_of_the_flow_shows_its_success(flow: FlowState, width: int) -> None:
    text = "\n".join(lines(flow, width))
    assert "Authorization  80.0 % success" in text
    assert "Registration  75.0 % success" in text
    assert "Token exchange  93.3 % success" in text
    assert "Identity provider  93.3 % ok" in text
    assert "33.3 % are refreshes · last 10 s" in text


@pytest.mark.parametrize("width", [80, 120])
def test_results_show_their_rates_and_totals(flow: FlowState, width: int) -> None:
    success = line_with(flow, width, "success", "1.60/s")
    assert success.startswith("│ success 1.60/s")
    assert "█ 1,016 │" in success
    assert line_with(flow, width, "invalid client").startswith("│ invalid client 0.10/s ▂ 1 │")
    assert "│ success 0.30/s █ 3 │" in success


@pytest.mark.parametrize("width", [80, 120])
def test_grants_show_their_success_and_latency(flow: FlowState, width: int) -> None:
    # 9 of 10 between 0.1 and 0.5 s: the median at rank 5 of those; the tenth is beyond the last bucket.
    assert "authorization code 1.00/s 90.0 % 322 ms ≥ 5 s ≥ 5 s 10" in line_with(flow, width, "authorization code")
    assert "refresh token 0.50/s 100 % 50 ms 95 ms 99 ms 5" in line_with(flow, width, "refresh token")


@pytest.mark.parametrize("width", [80, 120])
def test_durations_are_drawn_bucket_by_bucket(flow: FlowState, width: int) -> None:
    assert re.search(r"≤ 0.1 s 0 % █+ 100 % │", line_with(flow, width, "≤ 0.1 s"))
    assert re.search(r"≤ 0.5 s █+[▏▎▍▌▋▊▉]? 90 % 0 % │", line_with(flow, width, "≤ 0.5 s"))
    assert re.search(r"> 5 s █*[▏▎▍▌▋▊▉]? 10 % 0 % │", line_with(flow, width, "> 5 s"))


@pytest.mark.parametrize("width", [80, 120])
def test_errors_show_by_cause_and_reason(flow: FlowState, width: int) -> None:
    assert "0.30/s · 3 0.10/s · 1 0.10/s · 1 0.10/s · 1" in line_with(flow, width, "0.30/s · 3")
    assert "client authorize bad_code_challenge_method 0.20/s 2" in line_with(flow, width, "bad_code_challenge_method")
    assert "idp token idp_timeout 0.10/s 1" in line_with(flow, width, "idp_timeout")


@pytest.mark.parametrize("width", [80, 120])
def test_the_identity_provider_shows_by_outcome(flow: FlowState, width: int) -> None:
    assert "token ok 1.40/s 496 ms 14" in line_with(flow, width, "token", " ok ")
    assert "token timeout 0.10/s 9.95 s 1" in line_with(flow, width, "token", " timeout ")


@pytest.mark.parametrize("width", [80, 120])
def test_the_login_shows_its_funnel_and_user_decisions(flow: FlowState, width: int) -> None:
    assert "Login  45.0 % of requests get tokens" in "\n".join(lines(flow, width))
    bar = "[█▏▎▍▌▋▊▉]+"
    for step, beside in (
        (f"challenged {bar} 30", "consent approved 0.80/s 8"),
        (f"read resource {bar} 8", "consent denied 0.20/s 2"),
        (f"read server {bar} 7", "callback success 1.20/s 12"),
        (f"registered {bar} 3", "callback denied 0/s 0"),
        (f"requested {bar} 20", "callback error 0.30/s 3"),
        # 10 of 12 between 10 and 30 s: the median at rank 6 of those.
        (f"consented {bar} 8", "time away P50 22 s P95 102 s"),
    ):
        assert re.search(f"{step} {beside} │", line_with(flow, width, step.partition(f" {bar}")[0], beside.split()[1]))


@pytest.mark.parametrize("width", [80, 120])
def test_the_funnel_shows_what_is_lost_at_each_step_that_every_login_takes(flow: FlowState, width: int) -> None:
    for step, lost in (("redirected", "-25.0 % 15"), ("returned", "-20.0 % 12"), ("exchanged", "-25.0 % 9")):
        assert re.search(rf"{step} █+[▏▎▍▌▋▊▉]? {lost} │", line_with(flow, width, step))
    assert re.search(r"used █+[▏▎▍▌▋▊▉]? -33.3 % 6 │", line_with(flow, width, " used "))
    assert "%" not in line_with(flow, width, "refreshed ")


def lost(instance: Instance, steps: Mapping[Step, int]) -> str:
    flow = FlowState()
    flow.add(parse(instance.exposition(), taken_at=0))
    for step, times in steps.items():
        instance.step(step, times)
    flow.add(parse(instance.exposition(), taken_at=10))
    return "\n".join(lines(flow, 80))


BROKER = {Step.REQUESTED: 4, Step.REDIRECTED: 4, Step.RETURNED: 3, Step.EXCHANGED: 3}
RELAY = {Step.REQUESTED: 4, Step.REDIRECTED: 4, Step.EXCHANGED: 3}


def test_nothing_is_lost_at_a_step_that_is_not_taken_here(instance: Instance) -> None:
    """Nobody returns in the relay flow, and this server is not in front of an MCP server."""
    text = lost(instance, RELAY)
    assert re.search(r"exchanged +█+[▏▎▍▌▋▊▉]? +-25.0 % +3 ", text)
    assert text.count("-25.0 %") == text.count(" -") == 1


def test_tokens_that_nobody_uses_are_lost(instance: Instance) -> None:
    instance.count(RESOURCE_REQUESTS, 4, result="challenged")
    assert re.search(r"used +-100 % +0 ", lost(instance, BROKER))


def test_the_use_of_tokens_is_not_expected_in_the_relay_flow(instance: Instance) -> None:
    """Each token counts there, not each login."""
    instance.count(RESOURCE_REQUESTS, 4, result="allowed")
    assert not re.search(r"used .*-\d", lost(instance, {**RELAY, Step.USED: 1}))


def test_a_refused_request_of_a_stranger_does_not_tell_that_tokens_are_used_here(instance: Instance) -> None:
    instance.count(RESOURCE_REQUESTS, 4, result="refused")
    assert not re.search(r"used .*-\d", lost(instance, BROKER))


def test_a_login_that_begins_is_no_error(instance: Instance) -> None:
    flow = FlowState()
    flow.add(parse(instance.exposition(), taken_at=0))
    instance.fail(ResourceOutcome.NO_TOKEN, 70)
    instance.fail(ResourceOutcome.BAD_TOKEN, 10)
    flow.add(parse(instance.exposition(), taken_at=10))
    assert "1.00/s · 10 0/s · 0 0/s · 0 0/s · 0" in line_with(flow, 80, "1.00/s · 10")
    assert "no_token" not in "\n".join(lines(flow, 80))


@pytest.mark.parametrize("width", [80, 120])
def test_consent_and_callback_are_in_the_borders(flow: FlowState, width: int) -> None:
    text = "\n".join(lines(flow, width, 24))
    assert "80.0 % consent · last 10 s" in text
    assert "80.0 % return · P50 22 s P95 102 s · last 10 s" in text


def test_a_low_terminal_shows_the_funnel_in_a_line(flow: FlowState) -> None:
    assert "requested 20 · redirected 15 · returned 12 · exchanged 9 · used 6" in lines(flow, 80, 24)


def test_an_instance_in_the_relay_flow_has_no_consent_figures(instance: Instance) -> None:
    flow = FlowState()
    flow.add(parse(instance.exposition(), taken_at=0))
    instance.count(AUTHORIZATION_REQUESTS, 1, result="success")
    instance.exchange("authorization_code", 0.3)
    flow.add(parse(instance.exposition(), taken_at=10))
    text = "\n".join(lines(flow, 80))
    assert "% consent" not in text
    assert "% back" not in text
    assert f"time away {NOTHING}" in text


def test_a_pending_consent_is_traffic(instance: Instance) -> None:
    flow = FlowState()
    flow.add(parse(instance.exposition(), taken_at=0))
    instance.step(Step.REQUESTED, 1)
    flow.add(parse(instance.exposition(), taken_at=10))
    assert flow.has_traffic
    assert not flow.is_quiet


@pytest.mark.parametrize(
    ("word", "colour"),
    [
        ("invalid client", "dark_orange"),
        ("unknown_client", "yellow"),
        ("cancelled", "blue"),
        ("idp_timeout", "magenta"),
        ("store_failed", "red"),
        ("timeout", "magenta"),
        ("ok", "green"),
        ("80.0 %", "yellow"),
    ],
)
def test_colours_show_success_and_cause(flow: FlowState, word: str, colour: str) -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=True)
    segments: list[Segment] = [segment for segment in console.render(render(flow)) if segment.text.strip() == word]
    assert any(segment.style and segment.style.color and segment.style.color.name == colour for segment in segments)


@pytest.mark.parametrize("width", [40, 72, 80, 109, 110, 120, 200])
def test_no_line_is_wider_than_the_terminal(flow: FlowState, width: int) -> None:
    assert max(map(len, lines(flow, width))) <= width


@pytest.mark.parametrize("height", [24, 25, 30, 36, 40, 50, 60])
@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_whole_view_fits_a_terminal_of_24_lines_or_more(flow: FlowState, width: int, height: int) -> None:
    drawn = lines(flow, width, height)
    assert len(drawn) <= height
    assert drawn[0].startswith("the title")
    assert drawn[-1].startswith("the footer")
    text = "\n".join(drawn)
    for panel in ("Authorization", "Registration", "requested", "Token exchange", "Errors", "Identity provider"):
        assert panel in text


def test_a_higher_terminal_shows_more(flow: FlowState) -> None:
    assert "≤ 0.1 s" not in "\n".join(lines(flow, 80, 24))
    assert "since start" not in "\n".join(lines(flow, 80, 24))
    assert "Login" not in "\n".join(lines(flow, 80, 24))
    assert "Login" in "\n".join(lines(flow, 80, 38))
    assert "since start" in "\n".join(lines(flow, 80, 44))
    assert "≤ 0.1 s" in "\n".join(lines(flow, 80, 52))


def test_a_terminal_too_low_for_the_view_shows_its_upper_part(flow: FlowState) -> None:
    assert lines(flow, 80, 10) == lines(flow, 80, 24)[:10]


def test_an_instance_without_traffic_shows_a_hint(instance: Instance) -> None:
    flow = FlowState()
    flow.add(parse(instance.exposition(), taken_at=0))
    text = "\n".join(lines(flow, 80))
    assert "No traffic yet" in text
    assert "○ first scrape" in text
    assert "no errors" in text
    assert "no requests yet" in text
    assert "%" not in text


def test_an_idle_instance_shows_its_past_traffic(flow: FlowState, instance: Instance) -> None:
    for at in (100, 200):
        flow.add(parse(instance.exposition(), taken_at=at))
    text = "\n".join(lines(flow, 80, 24))
    assert "○ idle" in text
    assert "Authorization  99.6 % success" in text
    assert "since start" in text
    assert "authorization code          0/s   90.0 %   322 ms    ≥ 5 s    ≥ 5 s       10" in text


def test_trouble_is_shown_above_the_last_figures(flow: FlowState) -> None:
    drawn = lines(flow, 80, trouble="http://[::1]:9464/metrics does not respond")
    assert "✖ no response" in drawn[0]
    assert drawn[1] == "http://[::1]:9464/metrics does not respond"
    assert "Authorization  80.0 % success" in "\n".join(drawn)


def test_title_and_footer_are_text_and_not_markup(flow: FlowState) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render(flow, title="http://[::1]:1/[red]", footer="[bold]http://[::1]:2"))
    text = console.export_text()
    assert "http://[::1]:1/[red]" in text
    assert "[bold]http://[::1]:2" in text


def test_a_footer_may_be_any_renderable(flow: FlowState) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render(flow, footer=Text("one\ntwo")))
    assert console.export_text().rstrip().endswith("one\ntwo")


def test_an_ascii_terminal_gets_an_ascii_view(flow: FlowState) -> None:
    output = io.BytesIO()
    console = Console(width=80, file=io.TextIOWrapper(output, encoding="ascii", write_through=True))
    console.print(render(flow, title="seed-oauth watch · http://127.0.0.1:9464/metrics"))
    assert "Authorization  80.0 % success" in output.getvalue().decode("ascii")


def test_small_and_large_figures_keep_their_columns(instance: Instance) -> None:
    flow = FlowState()
    flow.add(parse(instance.exposition(), taken_at=0))
    instance.count(AUTHORIZATION_REQUESTS, 12_345_678, result="success")
    instance.count(AUTHORIZATION_REQUESTS, 1, result="error")
    flow.add(parse(instance.exposition(), taken_at=1_000))
    success, failure = line_with(flow, 80, "success", "12.35 M"), line_with(flow, 80, "│ error  ", "<0.01/s")
    assert success.startswith("│ success 12.3k/s")
    assert failure.startswith("│ error <0.01/s")
    # Not 100 %: one did fail.
    assert "Authorization  99.9 % success" in "\n".join(lines(flow, 80))
