"""The monitoring mixin is the plain files of the repository, as jsonnet evaluates them."""

import json
from pathlib import Path
from typing import Any

import _jsonnet  # type: ignore[import-untyped]  # its types are a package of their own
import yaml  # type: ignore[import-untyped]  # the same

ROOT = Path(__file__).parents[2]
RULES = [
    group
    for file in ("slos.yaml", "recording.yaml", "alerts.yaml")
    for group in yaml.safe_load((ROOT / "otel/rules" / file).read_text(encoding="utf-8"))["groups"]
]


def mixin(expression: str) -> Any:
    """What an expression is, in which `mixin` is the one of the repository."""
    imported = f"local mixin = import 'otel/mixin/mixin.libsonnet'; {expression}"
    return json.loads(_jsonnet.evaluate_snippet("test.jsonnet", imported, jpathdir=[str(ROOT)]))


def of_kind(kind: str) -> dict[str, Any]:
    return {"groups": [group for group in RULES if all(kind in rule for rule in group["rules"])]}


def test_every_group_has_rules_of_one_kind_and_is_in_the_mixin_once() -> None:
    groups = mixin("mixin.prometheusRules.groups + mixin.prometheusAlerts.groups")
    assert sorted(group["name"] for group in groups) == sorted(group["name"] for group in RULES)


def test_the_mixin_has_the_dashboard() -> None:
    (file,) = (ROOT / "grafana").glob("*.json")
    assert mixin("mixin.grafanaDashboards") == {file.name: json.loads(file.read_text(encoding="utf-8"))}


def test_the_mixin_has_the_recording_rules() -> None:
    assert mixin("mixin.prometheusRules") == of_kind("record")


def test_the_mixin_has_the_alerts() -> None:
    assert mixin("mixin.prometheusAlerts") == of_kind("alert")


def test_the_runbooks_of_the_mixin_can_be_elsewhere() -> None:
    url = "https://wiki.example/runbooks"
    alerts = mixin(f"(mixin {{ _config+:: {{ runbooks: '{url}' }} }}).prometheusAlerts")
    expected = of_kind("alert")
    for group in expected["groups"]:
        for rule in group["rules"]:
            rule["annotations"]["runbook_url"] = f"{url}#{rule['alert'].lower()}"
    assert alerts == expected
