"""docs/metrics.md is made from the contract and the outcome table; `UPDATE_DOCS=1` writes it anew."""

import os
from collections.abc import Iterable
from pathlib import Path

from seed_oauth.outcomes import Outcome, ResourceOutcome
from seed_oauth.telemetry.contract import CONTRACT, ENDPOINTS, STEPS, Kind, Series

REFERENCE = Path(__file__).parents[2] / "docs" / "metrics.md"

HEAD = """\
# Metrics reference

Made from `src/seed_oauth/telemetry/contract.py` and `src/seed_oauth/outcomes.py` by a test, which fails when it
differs.

All label sets are closed: nothing that a client sends becomes a label. Counters show every label set at 0 from the
start, so that `increase()` sees the first failure; a histogram appears with its first observation.

## Series
"""
BESIDE = """\
### Beside them

`http_client_request_duration_seconds` is the httpx instrumentation's view of the requests to the identity provider.
It knows only those that were answered; `oauth_idp_requests_total` knows all. `process_*` describes the process
that is scraped (with several workers that is the supervisor), and only a scrape shows it. `target_info` names the
service and its version.
"""
REASONS = """\
## Reasons

Every way in which a request can end. `reason` is what `oauth_errors_total` and the log call it; `error` and the status
are what the client is told. Only the causes `idp` and `server` are trouble of the operator's.
"""


def table(*rows: Iterable[str]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * head.count(" | ") + "---|", *body]) + "\n"


def code(text: object) -> str:
    return f"`{text}`"


def section_of(series: Series) -> str:
    labels = [("label", "values")]
    for label in series.labels:
        values = dict.fromkeys(attributes[label] for attributes in series.known)
        shown = "a row of the table below" if label == "reason" else ", ".join(map(code, values))
        shown = "its number, from `0`" if label == "worker" else shown
        labels.append((code(label), shown))
    kind = f"A {series.kind}."
    if series.kind is Kind.HISTOGRAM:
        bounds = ", ".join(f"{bound:g}" for bound in series.buckets)
        kind = f"A {series.kind} in seconds, with buckets up to {bounds} and more."
    return f"### `{series.name}`\n\n{series.help}. {kind}\n\n{table(*labels)}"


def rows_of(outcomes: type[Outcome]) -> str:
    head = ("reason", "`result`", "`error`", "status", "cause", "steps")
    rows = [
        (
            code(outcome.reason),
            code(outcome.result) if outcome.result else "-",
            code(outcome.error) if outcome.error else "-",
            str(outcome.status),
            outcome.cause or "-",
            ", ".join(STEPS.get(outcome, ())) or "-",
        )
        for outcome in outcomes
    ]
    endpoint = ENDPOINTS[outcomes]
    title = "The MCP server itself (`resource`)" if outcomes is ResourceOutcome else f"`/oauth/{endpoint}`"
    return f"### {title}\n\n{table(head, *rows)}"


def render() -> str:
    sections = [HEAD, *map(section_of, CONTRACT), BESIDE, REASONS, *map(rows_of, ENDPOINTS)]
    return "\n".join(sections)


def test_the_metrics_reference_is_what_the_code_says() -> None:
    if os.environ.get("UPDATE_DOCS"):
        REFERENCE.write_text(render())
    assert REFERENCE.read_text() == render()
