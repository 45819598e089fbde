"""The panels of the dashboard that are generated from the objectives in otel/slos.yaml."""

from typing import Any

from tests.docs.slos import OBJECTIVES, Objective

FILTER = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job", instance=~"$instance"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
LEGEND = "{{cluster}} {{namespace}} {{job}}"
LEFT = """\
{description} The objective is {objective} %. Of the failures that it allows in the dashboard's time range, this is \
the share that has not occurred; below 0 the objective is not met. Select 30 days for the usual period of a budget. \
One value for each job. When it falls: {alert} is the alert, and "Top errors" below names the reason."""
BURN = """\
How many times as fast as the objective allows the error budget is spent. Above 1 the objective is not met. The alerts \
begin at 1 over days and at 14.4 over an hour. The worst of the selected jobs for each objective. When it rises: "Top \
errors" below names the reason."""


def panels() -> list[dict[str, Any]]:
    """A stat for each objective, and how fast all budgets are spent."""
    return [*(_left(number, objective) for number, objective in enumerate(OBJECTIVES)), _burn_rates()]


def _ratio(objective: Objective, window: str) -> str:
    """The share that fails. Each selector of the source has a matcher, so it is where there is a brace."""
    error, total = (
        " ".join(objective.query(kind, window).replace("{", f"{{{FILTER}, ").split())
        .replace("( ", "(").replace(" )", ")").replace(" }", "}").replace(",  ", ", ")
        for kind in ("error_query", "total_query")
    )  # fmt: skip
    return f"{error} / ({total} > 0)"


def _left(number: int, objective: Objective) -> dict[str, Any]:
    query = f"1 - ({_ratio(objective, '$__range')}) / {objective.budget}"
    description = LEFT.format(
        description=objective.description, objective=f"{objective.objective:g}", alert=objective.alert
    )
    return {
        "id": 110 + number,
        "type": "stat",
        "pluginVersion": "10.4.0",
        "title": f"Error budget left: {objective.name}",
        "description": description,
        "gridPos": {"x": 4 * number, "y": 5, "w": 4, "h": 4},
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": "A",
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": query,
                "legendFormat": LEGEND,
                "instant": True,
            }
        ],
        "fieldConfig": {
            "defaults": {
                "unit": "percentunit",
                "noValue": "No traffic",
                "color": {"mode": "thresholds"},
                "thresholds": {
                    "mode": "absolute",
                    "steps": [
                        {"color": "red", "value": None},
                        {"color": "orange", "value": 0},
                        {"color": "green", "value": 0.25},
                    ],
                },
                "max": 1,
                "decimals": 0,
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
            "justifyMode": "center",
        },
    }


def _burn_rates() -> dict[str, Any]:
    return {
        "id": 110 + len(OBJECTIVES),
        "type": "timeseries",
        "pluginVersion": "10.4.0",
        "title": "Burn rate of the error budgets",
        "description": BURN,
        "gridPos": {"x": 4 * len(OBJECTIVES), "y": 5, "w": 24 - 4 * len(OBJECTIVES), "h": 4},
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": f"max(({_ratio(objective, '$__rate_interval')}) / {objective.budget})",
                "legendFormat": objective.name,
                "range": True,
            }
            for number, objective in enumerate(OBJECTIVES)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": "short",
                "min": 0,
                "noValue": "No traffic",
                "color": {"mode": "palette-classic"},
                "custom": {
                    "drawStyle": "line",
                    "lineWidth": 2,
                    "fillOpacity": 0,
                    "showPoints": "auto",
                    "spanNulls": False,
                    "stacking": {"mode": "none", "group": "A"},
                    "thresholdsStyle": {"mode": "dashed"},
                },
                "thresholds": {
                    "mode": "absolute",
                    "steps": [
                        {"color": "green", "value": None},
                        {"color": "orange", "value": 1},
                        {"color": "red", "value": 14.4},
                    ],
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "right", "calcs": [], "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
