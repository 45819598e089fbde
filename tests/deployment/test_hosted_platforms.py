"""The examples for hosted platforms and for what is in front of a cluster: they fit image, settings and Service."""

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from seed_oauth.settings import Settings
from tests.deployment.test_kubernetes import FOLDER, IMAGE, in_the_secret
from tests.docs.pages import block, read

PAGE = read("how-to/hosted-platforms.md")
KUBERNETES = read("how-to/kubernetes.md")
LONGEST_STOP = 40
"""Seconds, as compose.yaml allows."""
PORT, METRICS_PORT = int(IMAGE["SEED_OAUTH_PORT"]), int(IMAGE["SEED_OAUTH_METRICS_PORT"])


def env_of(container: Mapping[str, Any]) -> dict[str, str | None]:
    """The variables; those from a secret have no value."""
    return {one["name"]: one.get("value") for one in container["env"]}


def can_be_loaded(variables: Mapping[str, str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    secret = in_the_secret()
    assert {name for name, value in variables.items() if value is None} <= secret.keys()
    for name, value in {**IMAGE, **secret, **variables}.items():
        monkeypatch.setenv(name, secret[name] if value is None else value)
    settings = Settings.load()
    assert settings.missing() == []
    assert settings.store_url.startswith("rediss://")


def test_cloud_run_starts_it_with_settings_that_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    template = yaml.safe_load(block(PAGE, "cloud run"))["spec"]["template"]
    (container,) = template["spec"]["containers"]
    can_be_loaded(env_of(container), monkeypatch)
    assert container["ports"] == [{"containerPort": PORT}]
    assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": PORT}


def test_fly_starts_it_with_settings_that_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    app = tomllib.loads(block(PAGE, "fly"))
    can_be_loaded(app["env"], monkeypatch)
    assert app["http_service"]["internal_port"] == PORT
    assert [check["path"] for check in app["http_service"]["checks"]] == ["/readyz"]
    assert app["metrics"] == {"port": METRICS_PORT, "path": "/metrics"}
    assert (app["kill_signal"], app["kill_timeout"]) == ("SIGTERM", f"{LONGEST_STOP}s")


def test_azure_starts_it_with_settings_that_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = yaml.safe_load(block(PAGE, "azure"))["properties"]
    (container,) = properties["template"]["containers"]
    can_be_loaded(env_of(container), monkeypatch)
    secrets = {one["name"] for one in properties["configuration"]["secrets"]}
    assert {one["secretRef"] for one in container["env"] if "secretRef" in one} == secrets
    assert properties["configuration"]["ingress"]["targetPort"] == PORT
    probes = {one["type"]: one["httpGet"] for one in container["probes"]}
    assert probes == {
        kind: {"path": path, "port": PORT} for kind, path in {"Liveness": "/healthz", "Readiness": "/readyz"}.items()
    }
    assert properties["template"]["terminationGracePeriodSeconds"] == LONGEST_STOP


def service() -> tuple[str, dict[str, Any]]:
    spec = yaml.safe_load((FOLDER / "base/service.yaml").read_text(encoding="utf-8"))
    (port,) = spec["spec"]["ports"]
    return spec["metadata"]["name"], port


def test_an_ingress_reaches_the_service() -> None:
    name, port = service()
    (rule,) = yaml.safe_load(block(KUBERNETES, "ingress"))["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path == {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": name, "port": {"name": port["name"]}}},
    }


def test_a_route_of_the_gateway_api_reaches_the_service() -> None:
    name, port = service()
    (rule,) = yaml.safe_load(block(KUBERNETES, "gateway"))["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": name, "port": port["port"]}]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
