"""The dashboard is held to the metrics contract, to right PromQL and to the specification's own panels."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seed_oauth.telemetry.contract import CONTRACT
from seed_oauth.telemetry.series import Series
from tests.docs.slo_panels import panels as objective_panels
from tests.real_parts import path_of

DASHBOARD = Path(__file__).parents[2] / "grafana" / "seed-mcp-server-dashboard.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SOURCE = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"'
FILTER = f'{SOURCE}, instance=~"$instance"'
COLUMNS = 24
TOP_OF_LITERAL_PANELS = 62

PANEL_KEYS = {
    "id", "type", "pluginVersion", "title", "description", "gridPos", "datasource", "targets", "fieldConfig", "options",
    "transformations", "interval", "collapsed", "panels",
}  # fmt: skip
"""Of Grafana's classic schema."""

Json = dict[str, Any]


class LiteralPanel(NamedTuple):
    """A panel whose title, place and queries the specification dictates."""

    title: str
    grid: tuple[int, int, int, int]
    unit: str
    stacking: str
    colours: dict[str, str]
    """Legend → colour, in the order of the queries."""
    queries: tuple[str, ...]


LITERAL_PANELS = {
    33: LiteralPanel(
        title="OAuth Authorization Requests",
        grid=(0, 62, 12, 8),
        unit="reqps",
        stacking="normal",
        colours={"Success": "green", "Error": "red", "Invalid Client": "orange"},
        queries=(
            'rate(oauth_authorization_requests_total{result="success"}[5m])',
            'rate(oauth_authorization_requests_total{result="error"}[5m])',
            'rate(oauth_authorization_requests_total{result="invalid_client"}[5m])',
        ),
    ),
    34: LiteralPanel(
        title="OAuth Token Exchanges",
        grid=(12, 62, 12, 8),
        unit="reqps",
        stacking="normal",
        colours={
            "Authorization Code Success": "green",
            "Authorization Code Failure": "red",
            "Refresh Token Success": "blue",
            "Refresh Token Failure": "orange",
        },
        queries=(
            'rate(oauth_token_exchanges_total{grant_type="authorization_code", result="success"}[5m])',
            'rate(oauth_token_exchanges_total{grant_type="authorization_code", result="failure"}[5m])',
            'rate(oauth_token_exchanges_total{grant_type="refresh_token", result="success"}[5m])',
            'rate(oauth_token_exchanges_total{grant_type="refresh_token", result="failure"}[5m])',
        ),
    ),
    35: LiteralPanel(
        title="OAuth Token Exchange Duration",
        grid=(0, 70, 24, 8),
        unit="s",
        stacking="none",
        colours={"P50": "green", "P95": "orange", "P99": "red"},
        queries=(
            "histogram_quantile(0.50, rate(oauth_token_exchange_duration_seconds_bucket[5m]))",
            "histogram_quantile(0.95, rate(oauth_token_exchange_duration_seconds_bucket[5m]))",
            "histogram_quantile(0.99, rate(oauth_token_exchange_duration_seconds_bucket[5m]))",
        ),
    ),
}


@cache
def dashboard() -> Json:
    loaded: Json = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[Json]:
    """Every panel that draws something: the rows are headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Each query, by a name that finds it and that Prometheus accepts for a rule."""
    return {
        f"panel_{panel['id']}_{target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]
    }


def own_queries() -> dict[str, str]:
    """The queries that are not the specification's."""
    literal = tuple(f"panel_{panel_id}_" for panel_id in LITERAL_PANELS)
    return {name: query for name, query in queries().items() if not name.startswith(literal)}


def hand_written_queries() -> dict[str, str]:
    """Those of our own that are not generated from the objectives, whose denominators are sums."""
    generated = tuple(f"panel_{panel['id']}_" for panel in objective_panels())
    return {name: query for name, query in own_queries().items() if not name.startswith(generated)}


def without_strings(query: str) -> str:
    return re.sub(r'"[^"]*"', '""', query)


def cells(panel: Json) -> Iterator[tuple[int, int]]:
    grid = panel["gridPos"]
    for x in range(grid["x"], grid["x"] + grid["w"]):
        for y in range(grid["y"], grid["y"] + grid["h"]):
            yield x, y


def unit(panel: Json) -> str:
    """The unit of what is drawn; a heatmap keeps it at its axis."""
    drawn = panel["options"]["yAxis"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]
    return str(drawn.get("unit", ""))


def test_the_dashboard_is_valid_json_in_the_form_that_grafana_exports() -> None:
    # Two spaces and no other freedom, so that a change made in Grafana and exported is a small diff.
    exported = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    assert DASHBOARD.read_text(encoding="utf-8") == exported


def test_the_dashboard_can_be_imported_under_its_name() -> None:
    assert dashboard()["title"] == "Seed MCP Server"
    assert dashboard()["uid"] == "seed-mcp-server"
    assert dashboard()["id"] is None  # a number would overwrite whatever has it in that Grafana
    assert "__inputs" not in dashboard()
    assert dashboard()["schemaVersion"] == 39


def test_every_panel_is_of_a_kind_that_grafana_11_to_13_have() -> None:
    # Grafana 12 dropped the Angular panels graph, singlestat and table-old. An import migrates older schema versions.
    kinds = {panel["type"] for panel in dashboard()["panels"]}
    assert kinds == {"row", "stat", "timeseries", "table", "heatmap", "state-timeline"}
    assert {variable["type"] for variable in dashboard()["templating"]["list"]} == {"datasource", "query"}
    for panel in dashboard()["panels"]:
        assert panel.keys() <= PANEL_KEYS
        assert all(isinstance(value, int) for value in panel["gridPos"].values())


def test_one_datasource_variable_feeds_every_panel_target_and_variable() -> None:
    variables = dashboard()["templating"]["list"]
    (datasource,) = [variable for variable in variables if variable["type"] == "datasource"]
    assert (datasource["name"], datasource["query"]) == ("datasource", "prometheus")
    looked_up = [variable for variable in variables if variable["type"] == "query"]
    assert [variable["name"] for variable in looked_up] == ["cluster", "namespace", "job", "instance"]
    targets = [target for panel in panels() for target in panel["targets"]]
    assert targets
    assert [user for user in (*panels(), *targets, *looked_up) if user["datasource"] != DATASOURCE] == []


def test_each_variable_takes_several_values_or_all_from_an_oauth_series_of_those_before() -> None:
    series = CONTRACT[0].name
    _, cluster, namespace, job, instance = dashboard()["templating"]["list"]
    within = ", ".join(SOURCE.split(", ")[:2])
    assert cluster["query"]["query"] == f"label_values({series}, cluster)"
    assert namespace["query"]["query"] == f'label_values({series}{{cluster=~"$cluster"}}, namespace)'
    assert job["query"]["query"] == f"label_values({series}{{{within}}}, job)"
    assert instance["query"]["query"] == f"label_values({series}{{{SOURCE}}}, instance)"
    assert all(variable["multi"] and variable["includeAll"] for variable in (cluster, namespace, job, instance))
    # Also matches series without such a label, as outside of Kubernetes.
    assert all(variable["allValue"] == ".*" for variable in (cluster, namespace, instance))
    # `up` and the process series exist in every job, so All must mean the jobs that have the oauth series.
    assert "allValue" not in job


def test_every_panel_says_what_it_shows_in_which_unit_and_what_its_emptiness_means() -> None:
    for panel in panels():
        assert panel["title"], panel["id"]
        assert len(panel["description"]) > 80, panel["title"]
        assert unit(panel), panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]


def test_panel_ids_and_titles_are_unique() -> None:
    for key in "id", "title":
        seen = Counter(panel[key] for panel in dashboard()["panels"])
        assert [value for value, times in seen.items() if times > 1] == []


def test_panels_quoted_in_descriptions_exist() -> None:
    titles = {panel["title"] for panel in panels()}
    quoted = {quote for panel in panels() for quote in re.findall(r' "([A-Z][^"=]+)"', panel["description"])}
    assert quoted
    assert quoted - titles == set()


def test_the_panels_tile_the_grid_without_overlap_or_gap() -> None:
    # Grafana closes gaps by moving panels up, which would take the literal panels off their places.
    taken = Counter(cell for panel in dashboard()["panels"] for cell in cells(panel))
    height = 1 + max(y for _, y in taken)
    assert taken == Counter((x, y) for x in range(COLUMNS) for y in range(height))


def test_the_sections_tell_a_story_from_the_top() -> None:
    rows = [panel for panel in dashboard()["panels"] if panel["type"] == "row"]
    titles = [row["title"] for row in sorted(rows, key=lambda row: row["gridPos"]["y"])]
    questions = ["Is it well?", "Who suffers?", "Where in the funnel?", "Which part?", "MCP operations", "Why?"]
    assert titles[: len(questions)] == questions
    assert titles[-1].startswith("Specification panels")


def test_everything_of_our_own_sits_above_the_literal_panels() -> None:
    bottoms = {panel["id"]: max(y for _, y in cells(panel)) for panel in dashboard()["panels"]}
    assert {panel_id for panel_id, y in bottoms.items() if y >= TOP_OF_LITERAL_PANELS} == set(LITERAL_PANELS)


@pytest.mark.parametrize("panel_id", LITERAL_PANELS)
def test_a_panel_of_the_specification_is_literal(panel_id: int) -> None:
    expected = LITERAL_PANELS[panel_id]
    (panel,) = [panel for panel in panels() if panel["id"] == panel_id]
    colours = {
        override["matcher"]["options"]: rule["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
        for rule in override["properties"]
    }
    style = panel["fieldConfig"]["defaults"]["custom"]
    assert panel["type"] == "timeseries"
    assert panel["title"] == expected.title
    assert tuple(panel["gridPos"][key] for key in "xywh") == expected.grid
    assert unit(panel) == expected.unit
    assert style["drawStyle"] == "line"
    assert style["stacking"]["mode"] == expected.stacking
    assert (style["fillOpacity"] > 0) is (expected.stacking == "normal")
    assert colours == expected.colours
    assert [target["legendFormat"] for target in panel["targets"]] == list(expected.colours)
    assert tuple(target["expr"] for target in panel["targets"]) == expected.queries


@pytest.mark.parametrize("panel_id", LITERAL_PANELS)
def test_a_panel_of_the_specification_says_what_its_query_assumes(panel_id: int) -> None:
    (description,) = [panel["description"] for panel in panels() if panel["id"] == panel_id]
    for assumption in "assumes one instance", "5m window needs a scrape interval", "in the section above":
        assert assumption in description


SERIES = {
    series.name + suffix: series
    for series in CONTRACT
    for suffix in (("_bucket", "_sum", "_count") if series.buckets else ("",))
}
"""The contract by the names that a scrape has."""

SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")
SUM = r"\bsum(?: by \([^)]*\) )?"
RATE = r"\(rate\(\w+\{[^}]*\}\[\$__(?:rate_interval|range)\]\)\)"
# The same aggregation on both sides, and nothing at all instead of NaN while there is no traffic.
RATIO = re.compile(rf"({SUM}){RATE} / \(\1{RATE} > 0\)")
AGGREGATED = re.compile(
    rf"(?:{SUM}|\bmin by \((?:instance|check)\) )\((?:(?:rate|increase)\()?\w+\{{{re.escape(FILTER)}[^}}]*\}}"
)


def oauth_matchers(query: str) -> Iterator[tuple[Series, str, str, str]]:
    """Each matcher on a label of an oauth series: the series, the label, the operator, the value."""
    for name, matchers in SELECTOR.findall(query):
        for label, operator, value in MATCHER.findall(matchers):
            if name in SERIES and label not in {"cluster", "namespace", "job", "instance", "le"}:
                yield SERIES[name], label, operator, value


def test_every_window_of_our_own_follows_the_scrape_interval() -> None:
    # A single figure is of the whole time range, in which also an installation that a few people use has traffic.
    figures = tuple(f"panel_{panel['id']}_" for panel in panels() if panel["type"] in {"stat", "table"})
    for name, query in own_queries().items():
        windows = set(re.findall(r"\[[^]]*\]", without_strings(query)))
        assert windows <= {"[$__range]" if name.startswith(figures) else "[$__rate_interval]"}, name


def test_every_series_of_our_own_is_aggregated_over_the_chosen_jobs_and_instances() -> None:
    for name, query in own_queries().items():
        rest = AGGREGATED.sub("", query)
        assert rest != query, name
        assert re.search(r"[{}]|_total|_seconds|_bytes", rest) is None, name


def test_every_quantile_of_our_own_adds_up_the_buckets_first() -> None:
    quantiles = re.findall(r"histogram_quantile\(.{,20}", " ".join(own_queries().values()))
    assert quantiles
    assert [q for q in quantiles if not re.match(r"histogram_quantile\(0\.\d+, sum by \(le\b", q)] == []


def test_no_query_matches_a_bucket_by_one_spelling() -> None:
    # A direct scrape writes le="5.0", an OpenTelemetry Collector le="5": an exact match misses one of them.
    for name, query in queries().items():
        for label, operator, value in MATCHER.findall(query):
            if label == "le":
                assert operator == "=~", name
                assert all(re.fullmatch(value, spelling) for spelling in ("5", "5.0")), name


def test_every_ratio_aggregates_both_sides_alike_and_is_silent_without_traffic() -> None:
    # Division joins equal label sets only: unaggregated, success / all gives 1 or nothing.
    divisions = {name: without_strings(query).count("/") for name, query in hand_written_queries().items()}
    assert any(divisions.values())
    assert {name: len(RATIO.findall(query)) for name, query in hand_written_queries().items()} == divisions


def test_every_oauth_series_and_label_is_in_the_contract() -> None:
    for name, query in queries().items():
        named = set(re.findall(r"\boauth_\w+", query))
        assert named <= set(SERIES), name
        if named:
            labels = {label for series in named for label in SERIES[series].labels}
            grouped_by = {label for labels in GROUPING.findall(query) for label in labels.split(", ")}
            assert grouped_by <= labels | {"le", "cluster", "namespace", "job", "instance"}, name


def test_every_label_value_that_a_query_looks_for_can_occur() -> None:
    matchers = [(name, *found) for name, query in queries().items() for found in oauth_matchers(query)]
    assert matchers
    for name, series, label, operator, value in matchers:
        assert label in series.labels, name
        wanted = value.split("|") if "~" in operator else [value]
        assert set(wanted) <= {labels[label] for labels in series.known}, name


def test_one_query_of_the_exchange_duration_asks_for_exemplars() -> None:
    panels = {panel["id"]: panel for panel in dashboard()["panels"]}
    asking = {
        number: [t["refId"] for t in panel.get("targets", []) if t.get("exemplar")] for number, panel in panels.items()
    }
    assert {number: targets for number, targets in asking.items() if targets} == {303: ["C"]}


def test_every_variable_in_a_query_is_defined() -> None:
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text(encoding="utf-8")))
    assert used - defined == {"__rate_interval", "__range", "__all"}


@pytest.mark.real_parts("prometheus")
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    promtool = path_of("promtool")
    values = {
        "$__rate_interval": "5m",
        "$__range": "1h",
        **dict.fromkeys(("$cluster", "$namespace", "$job", "$instance"), ".*"),
    }
    rules = [
        {"record": name, "expr": re.sub(r"\$\w+", lambda variable: values[variable[0]], query)}
        for name, query in queries().items()
    ]
    rules_file = tmp_path / "dashboard.json"  # JSON is YAML
    rules_file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    check = subprocess.run(  # noqa: S603 - promtool, found on the PATH, reads a file written above
        [promtool, "check", "rules", str(rules_file)], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert f"{len(rules)} rules found" in check.stdout
