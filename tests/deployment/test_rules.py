"""The rules are held to Prometheus itself, to their own tests, to the metrics contract and to the runbooks."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from seed_oauth.telemetry.contract import CONTRACT, ERRORS
from seed_oauth.telemetry.series import Attributes, Series
from tests.docs.alert_links import SITE
from tests.real_parts import path_of

OTEL = Path(__file__).parents[2] / "otel"
RULES = OTEL / "rules"
TESTS = {path.name: path.read_text(encoding="utf-8") for path in sorted((RULES / "tests").glob("*.yaml"))}
RUNBOOKS = (OTEL.parent / "src/seed_oauth/cli/doctor/runbooks.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```promql\n(.*?)```", RUNBOOKS, re.DOTALL)
BURN_RATES = {
    "14.4": ("page", "1h", "5m"),
    "6": ("page", "6h", "30m"),
    "3": ("ticket", "1d", "2h"),
    "1": ("ticket", "3d", "6h"),
}
"""Of the SRE workbook: how urgent it is, where it is seen, and where it must still be seen."""
TICKETS = {rate: burn for rate, burn in BURN_RATES.items() if burn[0] == "ticket"}
RUNBOOK_PARTS = ["What it means", "What users feel", "How to check", "What to do", "How to know that it is over"]

# The files keep to one layout, so that they can be read here without a YAML library.
RULE = re.compile(r"^ {6}- (record|alert): (\S+)\n((?: {8}.*\n)+)", re.MULTILINE)
EXPR = re.compile(r"^ {8}expr: (?:\|\n((?: {10}.*\n)+)|(.+\n))", re.MULTILINE)
GROUP = re.compile(r"^ {2}- name: (\w+)$", re.MULTILINE)
STORY = re.compile(r'^ {2}- name: "([^"]+)"\n((?:(?: {4}.*)?\n)+)', re.MULTILINE)
LOOK = re.compile(r"^ {8}alertname: (\w+)\n {8}exp_alerts:(.*\n(?: {10}.*\n)*)", re.MULTILINE)

SERIES = {
    series.name + suffix: series
    for series in CONTRACT
    for suffix in (("_bucket", "_sum", "_count") if series.buckets else ("",))
}
"""The contract by the names that a scrape has."""

# Of the scrape, of a histogram, of the SDK, and the one that a rule makes.
OTHER_LABELS = {"cluster", "namespace", "job", "instance", "le", "__name__", "otel_metric_overflow", "series"}

NAME = re.compile(r"(?<![\w:/])oauth_\w+(?![\w:])")
RECORDED_NAME = re.compile(r"\b[a-z_]+:oauth_\w+:\w+")
SELECTOR = re.compile(r"(\w*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([^)]+)\)")

Matcher = tuple[str, str, str]
"""Label, operator, value."""


class Rule(NamedTuple):
    """A recording rule or an alert, as it is written."""

    name: str
    body: str

    @property
    def expr(self) -> str:
        found = EXPR.search(self.body)
        assert found, self.name
        return " ".join((found[1] or found[2]).split())


class Story(NamedTuple):
    """One test group: its name, and how many alerts it expects each time it looks."""

    name: str
    looks: list[tuple[str, int]]

    @property
    def alert(self) -> str:
        return self.name.split()[0]

    @property
    def counts(self) -> list[int]:
        return [count for alert, count in self.looks if alert == self.alert]


def rules(kind: str, *files: str) -> list[Rule]:
    text = "".join((RULES / file).read_text(encoding="utf-8") for file in files)
    return [Rule(name, body) for found, name, body in RULE.findall(text) if found == kind]


ALERTS = rules("alert", "alerts.yaml", "slos.yaml")
RECORDED = rules("record", "recording.yaml", "slos.yaml")
EXPRESSIONS = [*(rule.expr for rule in (*RECORDED, *ALERTS)), *QUERIES]
ALERT_NAMES = sorted({alert.name for alert in ALERTS})
STORIES = [
    Story(name, [(alert, expected.count("- exp_labels:")) for alert, expected in LOOK.findall(body)])
    for text in TESTS.values()
    for name, body in STORY.findall(text)
]


def stories(alert: str, beginning: str) -> list[Story]:
    return [story for story in STORIES if story.name.startswith(f"{alert} {beginning}")]


@pytest.fixture(scope="module")
def promtool() -> str:
    return path_of("promtool")


def run(*command: str | Path) -> tuple[int, str]:
    """The exit code and everything that was printed."""
    done = subprocess.run(  # noqa: S603 - promtool, found on the PATH, reads the project's own files
        command, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.real_parts("prometheus")
@pytest.mark.parametrize("file", ["alerts.yaml", "recording.yaml", "slos.yaml"])
def test_prometheus_accepts_the_rules(file: str, promtool: str) -> None:
    code, printed = run(promtool, "check", "rules", RULES / file)
    read = [*rules("record", file), *rules("alert", file)]
    assert code == 0, printed
    assert f"{len(read)} rules found" in printed  # else there are some that are not read here


@pytest.mark.real_parts("prometheus")
@pytest.mark.parametrize("file", TESTS)
def test_the_rules_do_what_their_tests_say(file: str, promtool: str) -> None:
    code, printed = run(promtool, "test", "rules", RULES / "tests" / file)
    assert code == 0, printed


@pytest.mark.real_parts("prometheus")
def test_prometheus_accepts_every_query_of_the_runbooks(tmp_path: Path, promtool: str) -> None:
    queries = [{"record": f"runbook_{number}", "expr": query} for number, query in enumerate(QUERIES)]
    file = tmp_path / "runbooks.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "runbooks", "rules": queries}]}))
    code, printed = run(promtool, "check", "rules", file)
    assert code == 0, printed
    assert f"{len(queries)} rules found" in printed


def test_every_story_is_read_here_and_has_a_name_of_its_own() -> None:
    everything = "".join(TESTS.values())
    assert len({story.name for story in STORIES}) == everything.count("\n  - name: ")
    assert sum(len(story.looks) for story in STORIES) == everything.count("alertname:")
    assert sum(count for story in STORIES for _, count in story.looks) == everything.count("exp_labels:")


@pytest.mark.parametrize("alert", ALERT_NAMES)
def test_every_alert_is_seen_firing_staying_quiet_and_recovering(alert: str) -> None:
    fires, quiet, recovers = (stories(alert, it) for it in ("fires", "stays quiet: ", "fires and recovers: "))
    assert fires
    assert quiet
    assert recovers
    assert all(max(story.counts) > 0 for story in fires)
    assert all(max(story.counts) == 0 for story in quiet)
    assert all(story.counts[-1] == 0 for story in recovers)


def test_every_story_is_about_an_alert_or_a_recording_rule() -> None:
    about_alerts = {
        story.name for alert in ALERT_NAMES for it in ("fires", "stays quiet") for story in stories(alert, it)
    }
    assert about_alerts == {story.name for story in STORIES if story.looks}


def test_every_recording_rule_has_a_value_in_a_test() -> None:
    looked_at = set(RECORDED_NAME.findall("".join(TESTS.values())))
    assert looked_at == {rule.name for rule in RECORDED}


def failing_stories(folder: Path, promtool: str, expr: str) -> set[str]:
    """The stories that do not come true when every alert has this expression."""
    for file in "alerts.yaml", "slos.yaml":
        alerts = (RULES / file).read_text(encoding="utf-8")
        (folder / file).write_text(EXPR.sub(f"        expr: {expr}\n", alerts), encoding="utf-8")
    (folder / "recording.yaml").write_text("groups: []\n")
    shutil.copytree(RULES / "tests", folder / "tests")
    _, printed = run(promtool, "test", "rules", *sorted((folder / "tests").glob("*.yaml")))
    return {story.name for story in STORIES if f"name: {story.name},\n" in printed}


@pytest.mark.real_parts("prometheus")
def test_the_stories_notice_alerts_that_never_fire(tmp_path: Path, promtool: str) -> None:
    failing = failing_stories(tmp_path, promtool, "vector(0) > 0")
    assert failing == {story.name for alert in ALERT_NAMES for story in stories(alert, "fires")}


@pytest.mark.real_parts("prometheus")
def test_the_stories_notice_alerts_that_always_fire(tmp_path: Path, promtool: str) -> None:
    failing = failing_stories(tmp_path, promtool, "vector(1)")
    assert {story.name for alert in ALERT_NAMES for story in stories(alert, "stays quiet")} <= failing


@pytest.mark.parametrize("file", TESTS)
def test_the_order_of_evaluation_names_every_group(file: str) -> None:
    # promtool evaluates a group that is not named whenever it likes, and a test passes by chance.
    (files,) = re.findall(r"^rule_files: \[(.*)\]$", TESTS[file], re.MULTILINE)
    (order,) = re.findall(r"^group_eval_order:\n((?: {2}- \w+\n)+)", TESTS[file], re.MULTILINE)
    groups = [
        group
        for path in files.split(", ")
        for group in GROUP.findall((RULES / "tests" / path).read_text(encoding="utf-8"))
    ]
    assert re.findall(r"\w+", order) == groups


# PromQL


SOURCE = "cluster, namespace, job"
"""What tells one installation from another: a namespace may have a job that another one has, too."""


def test_every_rule_and_query_keeps_apart_what_comes_from_different_installations() -> None:
    for expr in EXPRESSIONS:
        # Inside the others, or global, or the list of all targets.
        groupings = re.findall(r"\b(?:by|on) \((?:le, )?([^)]*)\)", expr)
        assert all(grouping == "" or grouping.startswith(SOURCE) for grouping in groupings), expr
    muted = (OTEL / "alertmanager.yaml").read_text(encoding="utf-8")
    for labels in re.findall(r"(?:group_by|equal): \[(.*)\]", muted):
        assert {"cluster", "namespace"} <= set(labels.split(", ")), labels


def test_every_rate_is_summed_over_the_instances_of_a_job() -> None:
    # Division joins equal label sets only: unaggregated, success / all gives 1 or nothing.
    for rule in (*RECORDED, *ALERTS):
        rates = re.findall(r"\b(?:rate|increase)\(", rule.expr)
        summed = re.findall(
            rf"\bsum by \((?:le, )?{SOURCE}(?:, (?:grant_type|client_family))?\) \( ?(?:rate|increase)\(", rule.expr
        )
        assert len(summed) == len(rates), rule.name


def test_no_rule_matches_a_bucket_by_one_spelling() -> None:
    # A direct scrape writes le="2.0", an OpenTelemetry Collector le="2": an exact match misses one of them.
    for expr in EXPRESSIONS:
        for label, operator, value in MATCHER.findall(expr):
            if label == "le":
                assert operator == "=~", expr
                assert all(re.fullmatch(value, spelling) for spelling in ("2", "2.0")), expr


@pytest.mark.parametrize(
    ("objective", "burn_rates"),
    [("authorization", BURN_RATES), ("exchange", BURN_RATES), ("resource", BURN_RATES), ("refresh", TICKETS)],
)
def test_an_error_budget_has_its_burn_rates(objective: str, burn_rates: dict[str, tuple[str, str, str]]) -> None:
    errors = f"job:oauth_{objective}_errors"
    burns = [alert for alert in ALERTS if alert.name == f"OAuth{objective.title()}ErrorBudgetBurn"]
    for burn, (rate, (severity, long, short)) in zip(burns, burn_rates.items(), strict=True):
        too_fast = f'> {rate} * scalar(slo:oauth_error_budget:ratio{{slo="{objective}"}})'
        assert burn.expr == (
            f"{errors}:ratio_rate{long} {too_fast} and {errors}:ratio_rate{short} {too_fast} "
            f"and {errors}:increase{long} >= scalar(global:oauth_error_budget:minimum_errors)"
        )
        assert f'severity: {severity}\n          burn_rate: "{rate}"\n' in burn.body


# The contract


def texts() -> list[tuple[str, str]]:
    """Everything that names series, and where: the rules with their annotations, and the runbooks."""
    return [*RECORDED, *ALERTS, ("runbooks", RUNBOOKS)]


def selectors() -> Iterator[tuple[str, Series, list[Matcher]]]:
    for where, text in texts():
        for name, matchers in SELECTOR.findall(text):
            if name in SERIES:
                yield (
                    where,
                    SERIES[name],
                    [found for found in MATCHER.findall(matchers) if found[0] not in OTHER_LABELS],
                )


def holds(matcher: Matcher, attributes: Attributes) -> bool:
    label, operator, value = matcher
    matched = re.fullmatch(value, attributes[label]) if "~" in operator else value == attributes[label]
    return bool(matched) is not operator.startswith("!")


def test_every_series_is_in_the_contract_or_recorded() -> None:
    recorded = {rule.name for rule in RECORDED}
    for expr in EXPRESSIONS:
        assert set(NAME.findall(expr)) <= set(SERIES), expr
        assert set(RECORDED_NAME.findall(expr)) <= recorded, expr
    # Prose also speaks of a histogram as a whole, and of a group of rules.
    groups = GROUP.findall((RULES / "slos.yaml").read_text(encoding="utf-8"))
    for where, text in texts():
        assert set(NAME.findall(text)) <= {*SERIES, *groups, *(series.name for series in CONTRACT)}, where


def test_every_label_value_that_is_looked_for_can_occur() -> None:
    found = list(selectors())
    assert found
    for where, series, matchers in found:
        assert {label for label, _, _ in matchers} <= set(series.labels), where
        assert any(all(holds(matcher, known) for matcher in matchers) for known in series.known), where
        for label, _, value in matchers:
            for alternative in value.split("|"):
                assert any(re.fullmatch(alternative, known[label]) for known in series.known), (where, alternative)


def test_every_label_that_is_grouped_by_exists() -> None:
    labels = {label for series in CONTRACT for label in series.labels} | OTHER_LABELS
    for where, text in texts():
        assert {label for found in GROUPING.findall(text) for label in found.split(", ")} <= labels, where


def test_the_tests_feed_what_the_contract_has() -> None:
    fed = [selector for text in TESTS.values() for selector in re.findall(r"- series: '(.+)'", text)]
    assert fed
    for name, matchers in SELECTOR.findall("\n".join(fed)):
        labels = {label: value for label, _, value in MATCHER.findall(matchers)}
        if name.startswith("oauth_") and "otel_metric_overflow" not in labels:
            own = {label: value for label, value in labels.items() if label not in OTHER_LABELS}
            assert own in SERIES[name].known, (name, own)
            assert float(labels.get("le", "inf")) in {*SERIES[name].buckets, float("inf")}, name


# The runbooks


def runbook(alert: str) -> str:
    found = re.search(rf"^## {alert}\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert found, f"no runbook for {alert}"
    return found[1]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert sorted(re.findall(r"^## (.*)$", RUNBOOKS, re.MULTILINE)) == ALERT_NAMES


@pytest.mark.parametrize("alert", ALERT_NAMES)
def test_a_runbook_has_all_its_parts_and_something_to_ask_prometheus(alert: str) -> None:
    assert re.findall(r"^\*\*(.+?)\.\*\*", runbook(alert), re.MULTILINE) == RUNBOOK_PARTS
    assert "```promql\n" in runbook(alert)


def test_the_commands_of_the_runbooks_exist_in_the_image() -> None:
    # The image has Python, the coreutils and no more.
    inline = re.findall(r"`([a-z0-9-]+) [^`=({]*`", re.sub(r"```.*?```", "", RUNBOOKS, flags=re.DOTALL))
    lines = [
        line.split()[0] for block in re.findall(r"```sh\n(.*?)```", RUNBOOKS, re.DOTALL) for line in block.splitlines()
    ]
    assert {"seed-oauth", "python3"} <= {*inline, *lines} <= {"seed-oauth", "python3", "df"}


def test_links_within_the_runbooks_lead_somewhere() -> None:
    assert set(re.findall(r"\(#([^)]+)\)", RUNBOOKS)) <= {alert.lower() for alert in ALERT_NAMES}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_how_urgent_it_is_what_users_feel_and_where_its_runbook_is(alert: Rule) -> None:
    assert re.search(r"^ {10}severity: (page|ticket)$", alert.body, re.MULTILINE)
    assert re.search(r'^ {10}summary: ".{20,}"$', alert.body, re.MULTILINE)
    assert re.search(r"^ {10}description: >-\n(?: {12}.+\n){2,}", alert.body, re.MULTILINE)
    assert f"\n          runbook_url: {SITE}reference/runbooks.html#{alert.name.lower()}\n" in alert.body


# Outages


OUTAGES = [story for story in STORIES if story.name.endswith("for six hours")]


@pytest.mark.parametrize(
    "outage",
    [
        "OAuthResourceFailing fires and recovers: the MCP server is down",
        "OAuthResourceFailing fires and recovers: access tokens cannot be checked",
        "OAuthTokensRefused fires and recovers: every login gets a token for another audience",
        "OAuthLoginsNotReturning fires and recovers: the redirect_uri is gone from the identity provider",
        "OAuthTokensNeverUsed fires and recovers: a release of one client sends no request with its tokens",
        "OAuthAuthorizationsRefused fires and recovers: every client asks for a resource that is not protected here",
        "OAuthRevocationFailing fires and recovers: the identity provider revokes nothing",
        "OAuthWorkerDown fires and recovers: one of two workers hangs",
        "OAuthWorkerDown fires and recovers: no worker starts",
    ],
)
def test_an_outage_of_six_hours_has_its_alert_from_early_on_to_its_end(outage: str) -> None:
    (story,) = [story for story in OUTAGES if story.name == f"{outage} for six hours"]
    before, *during, after = story.counts
    assert (before, after) == (0, 0)
    assert len(during) == 2
    assert all(during)


def test_no_alert_counts_the_request_without_a_token_with_which_every_login_begins() -> None:
    challenge = {"endpoint": "resource", "reason": "no_token", "cause": "client"}
    for where, series, matchers in selectors():
        if series is ERRORS and where != "runbooks":
            assert not all(holds(matcher, challenge) for matcher in matchers), where


def test_what_alertmanager_mutes_are_alerts() -> None:
    rules = (OTEL / "alertmanager.yaml").read_text(encoding="utf-8").partition("inhibit_rules:")[2]
    named = {
        name if name.startswith("OAuth") else f"OAuth{name}"
        for value in re.findall(r'alertname=~?"([^"]+)"', rules)
        for name in value.replace("OAuth(", "").removesuffix(")").split("|")
    }
    assert named
    assert named <= set(ALERT_NAMES)
