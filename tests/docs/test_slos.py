"""The rules, the panels and the page of the objectives are generated from otel/slos.yaml."""

import json

import pytest

from tests.docs.pages import DOCS, ROOT, expect
from tests.docs.slo_panels import panels
from tests.docs.slos import OBJECTIVES, Objective, page, rules

DASHBOARD = ROOT / "grafana/seed-mcp-server-dashboard.json"


def test_the_rules_are_those_of_the_objectives() -> None:
    expect(ROOT / "otel/rules/slos.yaml", rules())


def test_the_dashboard_shows_the_objectives() -> None:
    generated = {panel["id"]: panel for panel in panels()}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    dashboard["panels"] = [generated.get(panel["id"], panel) for panel in dashboard["panels"]]
    assert generated.keys() <= {panel["id"] for panel in dashboard["panels"]}
    expect(DASHBOARD, json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n")


def test_the_page_of_the_objectives_says_what_is_alerted_on() -> None:
    expect(DOCS / "reference/objectives.md", page())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_an_objective_can_be_read_by_sloth(objective: Objective) -> None:
    # Sloth requires a window in each query, and both alerts with a name, or disabled.
    assert 0 < objective.objective < 100
    assert all("[{{.window}}]" in query for query in objective.sli["events"].values())
    assert objective.sli["events"].keys() == {"error_query", "total_query"}
    assert {"name", "annotations", "page_alert", "ticket_alert"} == objective.alerting.keys()
