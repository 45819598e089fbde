"""The login panel: the funnel, and how many users consent and return from the identity provider."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seed_oauth.cli.watch.charts import NOTHING, Bar, count, goodness, per_second, percent
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.layout import columns, panel, quantile, title
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CONSENT_DECISIONS,
    FLOW_STEPS,
)
from seed_oauth.telemetry.samples import sees_uses
from seed_oauth.telemetry.series import Series
from seed_oauth.telemetry.steps import ON_THE_WAY, Step

DECISIONS = {"approved": "green", "denied": "blue"}
CALLBACK_RESULTS = {"success": "green", "denied": "blue", "error": "red"}
NAMES = {Step.DISCOVERED_RESOURCE: "read resource", Step.DISCOVERED_SERVER: "read server"}


def login(flow: FlowState) -> Panel:
    """The funnel by step; beside it consent decisions, callbacks and the time at the identity provider."""
    head = title("Login")
    recent = flow.best_known(FLOW_STEPS.name)
    requested = recent.total(FLOW_STEPS.name, step=Step.REQUESTED)
    if requested:
        share = recent.total(FLOW_STEPS.name, step=Step.EXCHANGED) / requested
        head.append(f"  {percent(share)}", goodness(share)).append(" of requests get tokens", "dim")
    beside = Table.grid(padding=(0, 2, 0, 0), expand=True)
    beside.add_column(ratio=1)
    beside.add_column(ratio=1)
    beside.add_row(_funnel(flow), Group(_people(flow), _away(flow)))
    return panel(head, beside, note="lost since the step before or rate · total")


def login_in_short(flow: FlowState) -> Text:
    """The funnel since the start, in one line."""
    steps = (f"{step} {count(flow.since_start.total(FLOW_STEPS.name, step=step))}" for step in ON_THE_WAY)
    return Text(" · ".join(steps), "dim", no_wrap=True, overflow="ellipsis")


def consented(flow: FlowState) -> str:
    """The share of approved consents; empty without decisions."""
    share = flow.best_known(CONSENT_DECISIONS.name).share(CONSENT_DECISIONS.name, {"decision": "approved"})
    return "" if share is None else f"{percent(share)} consent · "


def came_back(flow: FlowState) -> str:
    """The share of successful callbacks and the time at the identity provider; empty without callbacks."""
    share = flow.best_known(CALLBACKS.name).share(CALLBACKS.name, {"result": "success"})
    return "" if share is None else f"{percent(share)} return · {_waits(flow)} · "


def _funnel(flow: FlowState) -> Table:
    recent = flow.best_known(FLOW_STEPS.name)
    # A login with more scopes takes the other steps again.
    steps: list[Step] = [step for step in Step if step is not Step.STEPPED_UP]
    taken = {step: recent.total(FLOW_STEPS.name, step=step) for step in steps}
    most = max(taken.values()) or 1
    lost = _lost(flow, taken)
    table = columns(13, None, -8, -7)
    for step, times in taken.items():
        table.add_row(
            Text(NAMES.get(step, step), "bold" if step in ON_THE_WAY else ""),
            Bar(times / most, "cyan"),
            Text(f"-{percent(lost[step])}" if lost.get(step) else "", "yellow"),
            count(flow.since_start.total(FLOW_STEPS.name, step=step)),
        )
    return table


def _lost(flow: FlowState, taken: Mapping[Step, float]) -> dict[Step, float]:
    """The share of logins that did not get from the step before to this one."""
    # In the relay flow nobody returns here, and not every authorization server is in front of an MCP server.
    ever = flow.since_start
    here = [
        step
        for step in ON_THE_WAY
        if (sees_uses(ever) if step is Step.USED else ever.total(FLOW_STEPS.name, step=step))
    ]
    return {step: max(1 - taken[step] / taken[before], 0.0) for before, step in pairwise(here) if taken[before]}


def _people(flow: FlowState) -> Table:
    table = columns(9, None, -7, -7)
    for row in (
        *_rows(flow, "consent", CONSENT_DECISIONS, "decision", DECISIONS),
        *_rows(flow, "callback", CALLBACKS, "result", CALLBACK_RESULTS),
    ):
        table.add_row(*row)
    return table


def _rows(
    flow: FlowState, name: str, series: Series, label: str, styles: Mapping[str, str]
) -> Iterator[tuple[Text, Text, str, str]]:
    for value, style in styles.items():
        labels = {label: value}
        yield (
            Text(name, "dim"),
            Text(value, style),
            per_second(flow.rate(series.name, **labels)),
            count(flow.since_start.total(series.name, **labels)),
        )


def _away(flow: FlowState) -> Table:
    table = columns(9, None)
    table.add_row(Text("time away", "dim"), _waits(flow))
    return table


def _waits(flow: FlowState) -> str:
    """Median and 95th percentile of the time at the identity provider."""
    samples = flow.best_known(f"{AUTHORIZATION_WAIT.name}_bucket")
    if not samples.histogram(AUTHORIZATION_WAIT.name).count:
        return NOTHING
    median, most = (quantile(samples, AUTHORIZATION_WAIT, q) for q in (0.5, 0.95))
    return f"P50 {median} P95 {most}"
