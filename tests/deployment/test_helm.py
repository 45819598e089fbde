"""The Helm chart: it is valid, and renders what kustomize renders, with the settings in a file."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own
from typer.testing import CliRunner

from seed_oauth import Settings
from seed_oauth.cli.main import app
from seed_oauth.settings.sources import SECRETS
from tests.deployment.test_kubernetes import FOLDER, IMAGE, Objects, container, in_the_secret, pod, render
from tests.docs.pages import block, expect, read
from tests.real_parts import HELM, ROOT

CHART = ROOT / "otel/helm"
MANY = ["--set", "replicas=3", "--set", "podMonitor=true"]
CLUSTER = ["--kube-version", "1.30.0"]
INSTANCE = "app.kubernetes.io/instance"

pytestmark = pytest.mark.real_parts("helm")


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - a fixed program


def template(*options: str) -> Objects:
    rendered = helm("template", "seed-oauth", CHART, *CLUSTER, *options)
    assert rendered.returncode == 0, rendered.stderr
    documents = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    objects: Objects = {document["kind"]: document for document in documents}
    assert len(objects) == len(documents)
    return objects


def without_instance(value: Any) -> Any:
    """Without the label that tells installations apart."""
    if isinstance(value, dict):
        return {name: without_instance(one) for name, one in value.items() if name != INSTANCE}
    return [*map(without_instance, value)] if isinstance(value, list) else value


def test_the_chart_passes_helms_own_checks() -> None:
    linted = helm("lint", "--strict", CHART)
    assert linted.returncode == 0, linted.stdout
    assert "[WARNING]" not in linted.stdout


@pytest.mark.real_parts("kustomize")
@pytest.mark.parametrize(("overlay", "options"), [("base", []), ("many-pods", MANY)])
def test_the_chart_renders_what_kustomize_does_apart_from_the_settings(overlay: str, options: list[str]) -> None:
    ours, theirs = without_instance(template(*options)), render(FOLDER / overlay)
    assert ours.keys() == theirs.keys()
    for objects in (ours, theirs):
        del objects["ConfigMap"]
        objects["Deployment"]["spec"]["template"]["metadata"].pop("annotations", None)
        for kind in ("env", "envFrom", "volumeMounts"):
            container(objects).pop(kind, None)
        pod(objects).pop("volumes", None)
    assert ours == theirs


@pytest.mark.parametrize("options", [[], MANY], ids=["one pod", "many pods"])
def test_the_settings_can_be_loaded_in_the_pod(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = template(
        *options, "--set-json", 'settings.scope_hierarchy={"a": ["b", "c"]}', "--set-json", "settings.idp_timeout=2.5"
    )
    (name, text), *others = objects["ConfigMap"]["data"].items()
    assert not others
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o644)  # as Kubernetes mounts it
    in_pod = {one["name"]: one for one in container(objects)["env"]}
    mounts = {one["name"]: one["mountPath"] for one in container(objects)["volumeMounts"]}
    volumes = {one["name"]: one for one in pod(objects)["volumes"]}
    assert in_pod["SEED_OAUTH_CONFIG"]["value"] == f"{mounts['settings']}/{name}"
    assert volumes["settings"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    secret = in_the_secret()
    if not options:
        del secret["SEED_OAUTH_STORE_URL"]
    for variable, value in {**IMAGE, **secret, "SEED_OAUTH_CONFIG": str(tmp_path / name)}.items():
        monkeypatch.setenv(variable, value)
    settings = Settings.load()
    assert settings.missing() == []
    assert (settings.workers, settings.idp_timeout) == (2, 2.5)
    assert settings.scope_hierarchy == {"a": ("b", "c")}
    assert settings.store_url.startswith("rediss://" if options else f"sqlite:///{mounts['store']}/")
    assert ("SEED_OAUTH_STORE_URL" in in_pod) == ("store" not in mounts) == bool(options)


@pytest.mark.parametrize(
    "wrong",
    [
        "settings.isuer=x",
        "settings.workers=0",
        "settings.flow=other",
        "replica=3",
        "replicas=0",
        "secret=",
        "settings.secret_keys={x}",
    ],
)
def test_a_value_that_cannot_be_used_is_refused_before_anything_is_applied(wrong: str) -> None:
    refused = helm("template", "seed-oauth", CHART, *CLUSTER, "--set", wrong)
    assert refused.returncode == 1
    assert "values don't meet the specifications of the schema" in refused.stderr


def test_the_values_that_are_shown_are_valid(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(block(read("how-to/kubernetes.md"), "values"))
    objects = template("--values", str(tmp_path / "values.yaml"))
    assert container(objects)["image"] == "ghcr.io/you/seed-oauth:0.1.0"
    assert "PodMonitor" in objects


def test_two_installations_in_one_namespace_do_not_mix() -> None:
    documents = [*filter(None, yaml.safe_load_all(helm("template", "other", CHART, *CLUSTER, *MANY).stdout))]
    assert len(documents) == len(template(*MANY))
    for document in documents:
        assert document["metadata"]["name"] == "other"
        for selector in ("selector", "podSelector"):
            selected = document["spec"].get(selector, {}) if "spec" in document else {}
            assert selected.get("matchLabels", selected).get(INSTANCE, "other") == "other"
            assert not selected or INSTANCE in selected.get("matchLabels", selected)


def test_the_schema_of_the_values_has_that_of_the_settings() -> None:
    settings = json.loads(CliRunner().invoke(app, ["config", "schema"]).output)
    definitions = settings.pop("$defs")
    for name in (name for name, mark in SECRETS.items() if not mark):
        del settings["properties"][name]  # a ConfigMap is no place for a secret
    text = {"type": "string", "minLength": 1}
    known = {
        "settings": settings,
        "secret": text,
        "image": {
            "type": "object",
            "properties": {"repository": text, "tag": {"type": "string"}},
            "additionalProperties": False,
        },
        "replicas": {"type": "integer", "minimum": 1},
        "storage": text,
        "monitoringNamespace": text,
        "podMonitor": {"type": "boolean"},
        "resources": {"type": "object"},
        "global": {"type": "object"},  # Helm's own
    }
    settings.pop("$schema")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions,
        "type": "object",
        "properties": known,
        "additionalProperties": False,
    }
    expect(CHART / "values.schema.json", json.dumps(schema, indent=1) + "\n")
