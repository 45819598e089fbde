"""The panels of the view, one function each."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seed_oauth.cli.watch.charts import NOTHING, Bar, Sparkline, count, goodness, per_second, percent
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.layout import columns, panel, quantile, rated, title, words
from seed_oauth.cli.watch.login import came_back, consented
from seed_oauth.outcomes import Cause, GrantType
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    DCR_REGISTRATIONS,
    ERRORS,
    IDP_REQUEST_DURATION,
    IDP_REQUESTS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
)
from seed_oauth.telemetry.samples import Samples
from seed_oauth.telemetry.series import Series
from seed_oauth.telemetry.steps import BEGINNING

SUCCESS = {"result": "success"}
OK = {"outcome": "ok"}
# Green, red and orange as in the Grafana dashboard.
AUTHORIZATION_RESULTS = {"success": "green", "error": "red", "invalid_client": "dark_orange"}
REGISTRATION_RESULTS = {"success": "green", "invalid": "dark_orange", "error": "red"}
CAUSES: Mapping[str, str] = {
    Cause.CLIENT: "yellow",
    Cause.USER: "blue",
    Cause.IDP: "magenta",
    Cause.SERVER: "red",
}
IDP_OUTCOMES = {"ok": "green", "http_4xx": "yellow", "cancelled": "blue"}
GRANT_IN_SHORT = {GrantType.AUTHORIZATION_CODE: "code", GrantType.REFRESH_TOKEN: "refresh"}
BUCKETS = ("green", "green", "yellow", "dark_orange", "red", "bright_red")


def authorization(flow: FlowState) -> Panel:
    """Authorization requests by result."""
    results = _results(flow, AUTHORIZATION_REQUESTS, AUTHORIZATION_RESULTS)
    return rated(flow, "Authorization", AUTHORIZATION_REQUESTS, SUCCESS, results, note=consented(flow))


def registration(flow: FlowState) -> Panel:
    """Dynamic client registrations by result."""
    results = _results(flow, DCR_REGISTRATIONS, REGISTRATION_RESULTS)
    return rated(flow, "Registration", DCR_REGISTRATIONS, SUCCESS, results)


def exchanges(flow: FlowState, *, wide: bool, both_spans: bool, buckets: bool) -> Panel:
    """Token exchanges by grant type: rate, success ratio and latency.

    `both_spans` shows recent figures and those since the start, with a sparkline; `buckets` adds a chart of the
    durations, beside the figures if `wide`.
    """
    body: RenderableType = _both_spans(flow) if both_spans else _one_span(flow)
    if buckets and wide:
        beside = Table.grid(padding=(0, 2, 0, 0), expand=True)
        beside.add_column(ratio=16)
        beside.add_column(ratio=9)
        beside.add_row(body, _buckets(flow))
        body = beside
    elif buckets:
        body = Group(body, "", _buckets(flow))
    refreshes = flow.best_known(TOKEN_EXCHANGES.name).share(
        TOKEN_EXCHANGES.name, {"grant_type": GrantType.REFRESH_TOKEN}
    )
    note = f"{percent(refreshes)} are refreshes · " if refreshes is not None else ""
    return rated(flow, "Token exchange", TOKEN_EXCHANGES, SUCCESS, body, note=note)


def errors(flow: FlowState, rows: int) -> Panel:
    """Errors by cause, and the most frequent reasons in at most `rows` rows."""
    causes = Table.grid(expand=True)
    for _ in CAUSES:
        causes.add_column(ratio=1)
    causes.add_row(*(Text(cause, f"bold {style}") for cause, style in CAUSES.items()))
    causes.add_row(*(_rate_and_total(flow, cause) for cause in CAUSES))
    reasons = columns(8, 9, None, -7, -7)
    top = flow.top_errors(rows)
    for line in top:
        style = CAUSES.get(line.cause, "")
        reasons.add_row(
            Text(line.cause, style),
            Text(line.endpoint, "dim"),
            Text(line.reason, style),
            per_second(line.recent / flow.recent_seconds if flow.recent_seconds else None),
            count(line.total),
        )
    body = Group(causes, reasons if top else Text("no errors", "dim"))
    return panel(title("Errors"), body, note="rate · total")


def identity_provider(flow: FlowState, rows: int) -> Panel:
    """Requests to the identity provider by operation and outcome, in at most `rows` rows."""
    outcomes = columns(10, None, -7, -8, -7)
    outcomes.add_row("", "", "rate", "P99", "total", style="dim")
    totals = flow.since_start.by(IDP_REQUESTS.name, "operation", "outcome")
    ranked = sorted((-total, labels) for labels, total in totals.items() if total)
    for _, (operation, outcome) in ranked[:rows]:
        labels = {"operation": operation, "outcome": outcome}
        samples = flow.best_known(IDP_REQUESTS.name, **labels)
        outcomes.add_row(
            Text(operation, "dim"),
            Text(outcome, IDP_OUTCOMES.get(outcome, "magenta")),
            per_second(flow.rate(IDP_REQUESTS.name, **labels)),
            quantile(samples, IDP_REQUEST_DURATION, 0.99, **labels),
            count(totals[operation, outcome]),
        )
    body = outcomes if ranked else Text("no requests yet", "dim")
    return rated(flow, "Identity provider", IDP_REQUESTS, OK, body, note=came_back(flow))


def _rate_and_total(flow: FlowState, cause: str) -> str:
    rate = _errors(flow.recent, cause) / flow.recent_seconds if flow.recent_seconds else None
    return f"{per_second(rate)} · {count(_errors(flow.since_start, cause))}"


def _errors(samples: Samples, cause: str) -> float:
    beginnings = samples.total(ERRORS.name, cause=cause, reason=BEGINNING)
    return samples.total(ERRORS.name, cause=cause) - beginnings


def _results(flow: FlowState, series: Series, styles: Mapping[str, str]) -> Table:
    histories = {result: flow.history(series.name, result=result) for result in styles}
    # With a common scale, a rare error does not look as frequent as the successes.
    ceiling = max((value for history in histories.values() for value in history), default=0.0)
    table = columns(max(map(len, styles)), -7, None, -7)
    table.add_row("", "rate", "", "total", style="dim")
    for result, style in styles.items():
        table.add_row(
            Text(words(result), style),
            per_second(flow.rate(series.name, result=result)),
            Sparkline(histories[result], ceiling, [style] * len(histories[result])),
            count(flow.since_start.total(series.name, result=result)),
        )
    return table


GRANT_COLUMNS = (None, -7, -8, -8, -8, -8, -8)


def _one_span(flow: FlowState) -> Table:
    table = columns(*GRANT_COLUMNS)
    table.add_row("", "rate", "success", "P50", "P95", "P99", "total", style="dim")
    for grant in GrantType:
        samples = flow.best_known(TOKEN_EXCHANGES.name, grant_type=grant)
        table.add_row(*_named(flow, grant), *_quality(samples, grant), _count(flow.since_start, grant))
    return table


def _both_spans(flow: FlowState) -> Group:
    head = columns(*GRANT_COLUMNS)
    head.add_row("", "rate", "success", "P50", "P95", "P99", "count", style="dim")
    trends = {grant: _trend(flow, grant) for grant in GrantType}
    ceiling = max((value for history, _ in trends.values() for value in history), default=0.0)
    parts: list[RenderableType] = [head]
    for grant, (history, styles) in trends.items():
        table = columns(*GRANT_COLUMNS)
        table.add_row(*_named(flow, grant), *_quality(flow.recent, grant), _count(flow.recent, grant))
        ever = flow.since_start
        table.add_row("since start", "", *_quality(ever, grant), _count(ever, grant), style="dim")
        parts += [table, Sparkline(history, ceiling, styles)]
    return Group(*parts)


def _named(flow: FlowState, grant: GrantType) -> tuple[Text, str]:
    return Text(words(grant), "bold"), per_second(flow.rate(TOKEN_EXCHANGES.name, grant_type=grant))


def _quality(samples: Samples, grant: GrantType) -> list[RenderableType]:
    share = samples.share(TOKEN_EXCHANGES.name, SUCCESS, grant_type=grant)
    quantiles = (quantile(samples, TOKEN_EXCHANGE_DURATION, q, grant_type=grant) for q in (0.5, 0.95, 0.99))
    return [Text(percent(share), goodness(share)), *quantiles]


def _count(samples: Samples, grant: GrantType) -> str:
    return count(samples.total(TOKEN_EXCHANGES.name, grant_type=grant))


def _trend(flow: FlowState, grant: GrantType) -> tuple[list[float], list[str]]:
    """The rate of exchanges over time, with styles by the share that failed."""
    history = flow.history(TOKEN_EXCHANGES.name, grant_type=grant)
    good = flow.history(TOKEN_EXCHANGES.name, grant_type=grant, **SUCCESS)
    return history, [
        goodness(successes / exchanges if exchanges else None)
        for successes, exchanges in zip(good, history, strict=True)
    ]


def _buckets(flow: FlowState) -> Table:
    """The distribution of exchange durations, one column of bars per grant type."""
    samples = flow.best_known(TOKEN_EXCHANGES.name)
    shares = [_bucket_shares(samples, grant) for grant in GrantType]
    bounds = TOKEN_EXCHANGE_DURATION.buckets
    names = [*(f"≤ {bound:g} s" for bound in bounds), f"> {bounds[-1]:g} s"]
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=7, no_wrap=True)
    for _ in GrantType:
        table.add_column(ratio=1, no_wrap=True)
        table.add_column(width=5, justify="right", no_wrap=True)
    table.add_row("", *(cell for grant in GrantType for cell in (GRANT_IN_SHORT[grant], "")), style="dim")
    for at, (name, style) in enumerate(zip(names, BUCKETS, strict=True)):
        bars = ((Bar(share[at], style), f"{share[at] * 100:.0f} %") if share else ("", NOTHING) for share in shares)
        table.add_row(Text(name, "dim"), *(cell for bar in bars for cell in bar))
    return table


def _bucket_shares(samples: Samples, grant: GrantType) -> list[float]:
    """The share of each bucket; empty without observations or with buckets other than those of the contract."""
    histogram = samples.histogram(TOKEN_EXCHANGE_DURATION.name, grant_type=grant)
    if not histogram.count or histogram.bounds[:-1] != TOKEN_EXCHANGE_DURATION.buckets:
        return []
    return [observed / histogram.count for observed in histogram.counts()]
