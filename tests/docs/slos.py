"""The objectives in otel/slos.yaml, and what is generated from them: the rules, and the page about them."""

import json
from collections.abc import Iterator, Sequence
from textwrap import fill, indent
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from tests.docs.alert_links import RUNBOOKS
from tests.docs.pages import ROOT, code, table

MINIMUM_ERRORS = 10


class Burn(NamedTuple):
    """A condition of the multi-window alerts of the SRE workbook, chapter 5."""

    alert: str
    """As Sloth calls it: page_alert or ticket_alert."""
    rate: str
    """How many times as fast as the objective allows the budget is spent."""
    long: str
    short: str
    lasts: str
    """How soon the budget of 30 days is spent."""
    waits: str
    holds: str = ""


BURNS = (
    Burn("page_alert", "14.4", "1h", "5m", "2 days", waits="2m", holds="5m"),
    Burn("page_alert", "6", "6h", "30m", "5 days", waits="15m"),
    Burn("ticket_alert", "3", "1d", "2h", "10 days", waits="1h"),
    Burn("ticket_alert", "1", "3d", "6h", "30 days", waits="3h"),
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


class Objective(NamedTuple):
    """One of Sloth's `slos`."""

    name: str
    objective: float
    description: str
    sli: dict[str, dict[str, str]]
    alerting: dict[str, Any]

    @property
    def alert(self) -> str:
        return str(self.alerting["name"])

    @property
    def budget(self) -> str:
        """The share that may fail."""
        return f"{1 - self.objective / 100:.4g}"

    @property
    def errors(self) -> str:
        """The first parts of the names of the recorded series."""
        return f"job:oauth_{self.name}_errors"

    @property
    def burns(self) -> list[Burn]:
        return [burn for burn in BURNS if not self.alerting[burn.alert].get("disable")]

    @property
    def windows(self) -> list[str]:
        used = {window for burn in self.burns for window in (burn.long, burn.short)}
        return [window for window in WINDOWS if window in used]

    def query(self, kind: str, window: str) -> str:
        """The error_query or total_query of a window."""
        return self.sli["events"][kind].replace("{{.window}}", window)


OBJECTIVES = [Objective(**slo) for slo in yaml.safe_load((ROOT / "otel/slos.yaml").read_text(encoding="utf-8"))["slos"]]


# otel/rules/slos.yaml

RULES = """\
# Generated from ../slos.yaml: the objectives, the error ratios of each window, and the alerts on their error budgets.
#
# Names are level:metric:operations, as in recording.yaml. A ratio has no sample while its denominator is 0, so no value
# is NaN. A burn rate of 1 spends the budget of 30 days in 30 days; 14.4 spends 2 % of it in an hour. The long window
# shows that the problem is significant, the short one that it continues, so that the alert resolves soon after its end.
groups:
  - name: oauth_objectives
    rules:
"""
MINIMUM = f"""\
      # Minimum number of failures within the long window of an alert. A single failure at night does not fire it, but
      # an outage that affects ten users a day does, which a minimum number of requests would hide.
      - record: global:oauth_error_budget:minimum_errors
        expr: vector({MINIMUM_ERRORS})
"""


def rules() -> str:
    budgets = "".join(
        f"      # {objective.objective:g} % succeed.\n"
        "      - record: slo:oauth_error_budget:ratio\n"
        f"        expr: vector({objective.budget})\n"
        f"        labels: {{slo: {objective.name}}}\n"
        for objective in OBJECTIVES
    )
    return RULES + budgets + MINIMUM + "".join(map(_recorded, OBJECTIVES)) + _alerts()


def _recorded(objective: Objective) -> str:
    group = f"\n  - name: oauth_{objective.name}_slo\n    rules:\n"
    return group + "".join(_recorded_window(objective, window) for window in objective.windows)


def _recorded_window(objective: Objective, window: str) -> str:
    errors = objective.query("error_query", window)
    recorded = f"{objective.errors}:increase{window}"
    total = objective.query("total_query", window).replace(errors, f"{recorded}\n")
    return (
        f"      - record: {recorded}\n"
        f"        expr: |\n{indent(errors, ' ' * 10)}"
        f"      - record: {objective.errors}:ratio_rate{window}\n"
        f"        expr: |\n"
        f"          {recorded}\n"
        f"          / (\n{indent(total, ' ' * 12)}"
        f"            > 0\n          )\n"
    )


def _alerts() -> str:
    return "\n  - name: oauth_objectives_alerts\n    rules:\n" + "".join(
        _alert(objective, burn) for objective in OBJECTIVES for burn in objective.burns
    )


def _alert(objective: Objective, burn: Burn) -> str:
    too_fast = f'> {burn.rate} * scalar(slo:oauth_error_budget:ratio{{slo="{objective.name}"}})'
    written = (
        f"      - alert: {objective.alert}\n"
        "        expr: |\n"
        f"          {objective.errors}:ratio_rate{burn.long} {too_fast}\n"
        f"          and {objective.errors}:ratio_rate{burn.short} {too_fast}\n"
        f"          and {objective.errors}:increase{burn.long} >= scalar(global:oauth_error_budget:minimum_errors)\n"
        f"        for: {burn.waits}\n"
    )
    if burn.holds:
        written += (
            "        # With little traffic, the short window may be empty between two requests, without an end.\n"
            f"        keep_firing_for: {burn.holds}\n"
        )
    severity = objective.alerting[burn.alert]["labels"]["severity"]
    written += f'        labels:\n          severity: {severity}\n          burn_rate: "{burn.rate}"\n'
    annotations = objective.alerting["annotations"]
    description = fill(annotations["description"], 96, break_long_words=False, break_on_hyphens=False)
    return (
        f"{written}        annotations:\n"
        f"          summary: {json.dumps(annotations['summary'], ensure_ascii=False)}\n"
        f"          description: >-\n{indent(description, ' ' * 12)}\n"
        f"          runbook_url: {RUNBOOKS}#{objective.alert.lower()}\n"
    )


# docs/reference/objectives.md

PAGE = """\
# Objectives

This page is generated from [otel/slos.yaml](../../otel/slos.yaml). What an objective allows to fail within 30 days is
its error budget; an alert fires if it is spent too fast.

{objectives}
A burn rate of 1 spends the budget of 30 days in 30 days. An alert looks at two windows: the long one shows that the
problem is significant, the short one that it continues. With fewer than {minimum} failures in the long window it does
not fire.

{burns}
The recording rules and alerts in [otel/rules/slos.yaml](../../otel/rules/slos.yaml) and the row "Is it well?" of the
dashboard are generated as well. The [runbooks](runbooks.md) say what each alert means.

## Change an objective

In `otel/rules/slos.yaml` change the number of `slo:oauth_error_budget:ratio`: 0.001 is 99.9 %. Its alerts use that
series. The dashboard has the numbers of this page.

To change what counts, edit `otel/slos.yaml` in a checkout, and generate everything again with
`UPDATE_DOCS=1 pytest tests/docs`.

## Use your own tooling

`otel/slos.yaml` has the format `prometheus/v1` of [Sloth](https://sloth.dev), which makes its own rules from it, with
its own names and without the minimum number of failures:

```sh
sloth generate -i otel/slos.yaml -o rules.yaml
```
"""


def page() -> str:
    return PAGE.format(
        objectives=table(("objective", "succeed", "what counts", "alert"), *map(_objective_row, OBJECTIVES)),
        burns=table(("burn rate", "long window", "short window", "severity", "budget lasts"), *_burn_rows()),
        minimum=MINIMUM_ERRORS,
    )


def _objective_row(objective: Objective) -> Sequence[str]:
    anchor = f"runbooks.md#{objective.alert.lower()}"
    return objective.name, f"{objective.objective:g} %", objective.description, f"[{code(objective.alert)}]({anchor})"


def _burn_rows() -> Iterator[Sequence[str]]:
    for burn in BURNS:
        yield burn.rate, burn.long, burn.short, burn.alert.removesuffix("_alert"), burn.lasts
