"""docs/reference/metrics.md is generated from the contract, docs/reference/outcomes.md from the outcome table."""

from seed_oauth.outcomes import Outcome, ResourceOutcome
from seed_oauth.telemetry.contract import CONTRACT, ENDPOINTS
from seed_oauth.telemetry.series import Kind, Series
from seed_oauth.telemetry.steps import STEPS
from tests.docs.pages import DOCS, code, expect, table

METRICS = """\
# Metrics

This page is generated from `src/seed_oauth/telemetry/contract.py`.

All label sets are closed: no request can add a label value. Counters expose every label set at 0 from the start, so
that `increase()` sees the first failure. A histogram appears with its first observation.
"""
OTHERS = """\
## Other series

`mcp_server_operation_duration_seconds` and `seed_oauth_mcp_requests_total` exist if
[`SEED_OAUTH_MCP_METRICS`](../how-to/measure-mcp-operations.md) is `on`.

`http_client_request_duration_seconds` comes from the httpx instrumentation and covers answered requests to the
identity provider; `oauth_idp_requests_total` covers all of them. `process_*` describes the scraped process, which is
the supervisor if there are several workers; it exists only in the scrape. `target_info` names the service and its
version.
"""
OUTCOMES = """\
# Outcomes

This page is generated from `src/seed_oauth/outcomes/`. It lists every way in which a request can end.

`reason` is the label of `oauth_errors_total` and the name in the log. `error` and the status are what the client
receives. Only the causes `idp` and `server` need the operator. `result` is the label of the endpoint's counter, and
`steps` are the steps that the request adds to `oauth_flow_steps_total`; `used` is added by the first request of a login
alone.
"""


def section_of(series: Series) -> str:
    labels = [("label", "values")]
    for label in series.labels:
        values = dict.fromkeys(attributes[label] for attributes in series.known)
        shown = "a reason of an [outcome](outcomes.md)" if label == "reason" else ", ".join(map(code, values))
        shown = "the version of `seed-oauth`" if label == "version" else shown
        shown = "the worker's number, from `0`" if label == "worker" else shown
        labels.append((code(label), shown))
    if series.from_settings:
        shown = "with several protected resources: the path of each, after its host if that is not the issuer's"
        if series.kind is Kind.COUNTER:
            shown += "; `_other`"
        labels += [(code(label), shown) for label in series.from_settings]
    kind = f"Type: {series.kind}."
    if series.kind is Kind.HISTOGRAM:
        bounds = ", ".join(f"{bound:g}" for bound in series.buckets)
        kind = f"Type: {series.kind}, in seconds. Bucket bounds: {bounds}."
    described = f"## `{series.name}`\n\n{series.help}. {kind}\n"
    return f"{described}\n{table(*labels)}" if len(labels) > 1 else described


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
    title = "The MCP server (`resource`)" if outcomes is ResourceOutcome else f"`/oauth/{endpoint}`"
    return f"## {title}\n\n{table(head, *rows)}"


def test_the_metrics_reference_is_the_contract() -> None:
    expect(DOCS / "reference/metrics.md", "\n".join([METRICS, *map(section_of, CONTRACT), OTHERS]))


def test_the_outcomes_reference_is_the_outcome_table() -> None:
    expect(DOCS / "reference/outcomes.md", "\n".join([OUTCOMES, *map(rows_of, ENDPOINTS)]))
