"""What operators apply to a cluster, as kustomize renders it: it fits image and settings, and how pods are stopped."""

import base64
import re
import secrets
import subprocess
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from seed_oauth.server.listener import DRAIN
from seed_oauth.settings import Settings, store_url
from seed_oauth.telemetry.push import SHUTDOWN_TIMEOUT
from tests.harness import FrontDoor
from tests.real_parts import KUSTOMIZE

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "otel" / "kubernetes"
OPERATIONS = (ROOT / "docs/how-to/kubernetes.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IMAGE = dict(re.findall(r"(SEED_OAUTH_\w+)=(\S+)", DOCKERFILE))
OVERLAYS = ["base", "many-pods"]

Objects = dict[str, dict[str, Any]]
"""What is applied, by kind: there is one of each."""


def render(folder: Path) -> Objects:
    """The objects of a kustomization."""
    rendered = subprocess.run(  # noqa: S603 - a fixed program
        [KUSTOMIZE, "build", folder], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stderr == ""  # neither a warning, such as that a field is deprecated
    documents = list(yaml.safe_load_all(rendered.stdout))
    objects = {document["kind"]: document for document in documents}
    assert len(objects) == len(documents)
    return objects


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> Objects:
    return render(FOLDER / request.param)


@pytest.fixture
def one_pod() -> Objects:
    return render(FOLDER / "base")


@pytest.fixture
def many_pods() -> Objects:
    return render(FOLDER / "many-pods")


def with_components(folder: Path, *components: str) -> Objects:
    """The base with components, as somebody else's overlay beside a copy of the project has it."""
    overlay = folder / "overlay"
    overlay.mkdir()
    (folder / "kubernetes").symlink_to(FOLDER)
    kustomization = {
        "resources": ["../kubernetes/base"],
        "components": [f"../kubernetes/components/{component}" for component in components],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return render(overlay)


def pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(objects: Objects) -> dict[str, Any]:
    (only,) = pod(objects)["containers"]
    assert isinstance(only, dict)
    return only


def in_the_secret() -> dict[str, str]:
    """What the commands of the how-to put into the Secret."""
    shown = dict(re.findall(r"--from-literal=(SEED_OAUTH_\w+)=(\S+)", OPERATIONS))
    return shown | {"SEED_OAUTH_SECRET_KEYS": base64.b64encode(secrets.token_bytes(32)).decode()}


def settings(objects: Objects, secret: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the door is told in a pod."""
    for name, value in {**IMAGE, **objects["ConfigMap"]["data"], **secret}.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.mark.real_parts("kustomize")
def test_the_kinds_are_those_that_each_way_needs(one_pod: Objects, many_pods: Objects) -> None:
    both = {"ConfigMap", "Deployment", "Service", "NetworkPolicy"}
    assert one_pod.keys() == both | {"PersistentVolumeClaim"}
    assert many_pods.keys() == both | {"PodDisruptionBudget", "PodMonitor"}


@pytest.mark.real_parts("kustomize")
def test_one_pod_serves_with_its_settings_and_keeps_its_store_on_the_volume(
    one_pod: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = in_the_secret()
    del secret["SEED_OAUTH_STORE_URL"]  # which is for many pods
    told = settings(one_pod, secret, monkeypatch)
    assert told.missing() == []
    (mount,) = container(one_pod)["volumeMounts"]
    assert told.store_url == f"sqlite:///{mount['mountPath']}/clients.db"
    (volume,) = pod(one_pod)["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == one_pod["PersistentVolumeClaim"]["metadata"]["name"]


@pytest.mark.real_parts("kustomize")
def test_many_pods_serve_with_their_settings_and_share_redis(
    many_pods: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settings(many_pods, in_the_secret(), monkeypatch)
    assert told.missing() == []
    assert store_url.is_redis(told.store_url)
    # No pod starts where the Secret does not name the store.
    assert container(many_pods)["env"] == [
        {
            "name": "SEED_OAUTH_STORE_URL",
            "valueFrom": {"secretKeyRef": {"name": "seed-oauth", "key": "SEED_OAUTH_STORE_URL"}},
        }
    ]
    assert not container(many_pods)["volumeMounts"]
    assert not pod(many_pods)["volumes"]


@pytest.mark.real_parts("kustomize")
def test_there_is_more_than_one_pod_only_where_they_share_a_store(one_pod: Objects, many_pods: Objects) -> None:
    assert one_pod["Deployment"]["spec"]["replicas"] == 1
    # The old pod lets go of the file before the new one opens it.
    assert one_pod["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert many_pods["Deployment"]["spec"]["replicas"] == 3
    rolling = many_pods["Deployment"]["spec"]["strategy"]
    assert (rolling["type"], rolling["rollingUpdate"]["maxUnavailable"]) == ("RollingUpdate", 0)


@pytest.mark.real_parts("kustomize")
def test_many_pods_are_spread_and_go_one_at_a_time(many_pods: Objects) -> None:
    labels = many_pods["Deployment"]["spec"]["template"]["metadata"]["labels"]
    spread = pod(many_pods)["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    budget = many_pods["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    for selector in (budget["selector"], *(one["labelSelector"] for one in spread)):
        assert selector["matchLabels"].items() <= labels.items()


def test_an_autoscaler_alone_says_how_many_pods_there_are(tmp_path: Path) -> None:
    objects = with_components(tmp_path, "redis", "autoscaler")
    assert "replicas" not in objects["Deployment"]["spec"]
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    assert 1 < scaler["minReplicas"] < scaler["maxReplicas"]


def test_prometheus_that_goes_by_annotations_finds_the_metrics(tmp_path: Path) -> None:
    objects = with_components(tmp_path, "scrape-annotations")
    assert objects["Deployment"]["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": IMAGE["SEED_OAUTH_METRICS_PORT"],
    }


@pytest.mark.real_parts("kustomize")
def test_the_prometheus_operator_finds_the_metrics(many_pods: Objects) -> None:
    monitor = many_pods["PodMonitor"]["spec"]
    labels = many_pods["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    assert labels[monitor["jobLabel"]] == "seed-oauth"  # the job of dashboards and rules


@pytest.mark.real_parts("kustomize")
def test_the_metrics_are_for_the_namespace_of_prometheus_only(objects: Objects) -> None:
    """THREATS 19."""
    ports = {port["name"]: str(port["containerPort"]) for port in container(objects)["ports"]}
    assert ports == {"http": IMAGE["SEED_OAUTH_PORT"], "metrics": IMAGE["SEED_OAUTH_METRICS_PORT"]}
    assert [port["targetPort"] for port in objects["Service"]["spec"]["ports"]] == ["http"]
    assert "Ingress" not in objects
    policy = objects["NetworkPolicy"]["spec"]
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    everybody, prometheus = policy["ingress"]
    assert everybody == {"ports": [{"port": "http"}]}
    assert prometheus["ports"] == [{"port": "metrics"}]
    assert prometheus["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.real_parts("kustomize")
def test_a_pod_reaches_the_internet_by_https_and_neither_the_cluster_nor_the_clouds_metadata(objects: Objects) -> None:
    """THREATS 9: what the guarded transport refuses, the network refuses, too."""
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    rules = [rule for rule in policy["egress"] if any("ipBlock" in peer for peer in rule.get("to", []))]
    assert [rule["ports"] for rule in rules] == [[{"protocol": "TCP", "port": 443}]]
    blocks = [peer["ipBlock"] for peer in rules[0]["to"]]
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "::/0"]
    excepted = [ip_network(network) for block in blocks for network in block["except"]]
    for address in ("169.254.169.254", "168.63.129.16", "10.0.0.1", "100.100.100.200", "192.168.0.1", "fd00:ec2::254"):
        assert any(ip_address(address) in network for network in excepted)


@pytest.mark.real_parts("kustomize")
def test_many_pods_reach_redis(many_pods: Objects) -> None:
    ports = {port["port"] for rule in many_pods["NetworkPolicy"]["spec"]["egress"] for port in rule.get("ports", [])}
    assert {6379, 26379} <= ports


@pytest.mark.real_parts("kustomize")
async def test_the_probes_ask_where_the_door_answers(objects: Objects, door: FrontDoor) -> None:
    probes = {name: container(objects)[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",  # not /readyz: a store that is gone comes back without a restart
        "readiness": "/readyz",
    }
    for probe in probes.values():
        assert probe["port"] == "http"
        assert (await door.http.get(probe["path"])).status_code == 200


@pytest.mark.real_parts("kustomize")
def test_a_pod_has_the_time_that_the_door_takes_to_stop(objects: Objects) -> None:
    before = int(container(objects)["lifecycle"]["preStop"]["exec"]["command"][1])
    # The workers push, then the supervisor; a second is for the processes themselves to end.
    assert pod(objects)["terminationGracePeriodSeconds"] >= before + DRAIN + 2 * SHUTDOWN_TIMEOUT + 1


@pytest.mark.real_parts("kustomize")
def test_a_pod_can_do_nothing_but_answer(objects: Objects) -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    security = pod(objects)["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert {security[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(objects)["automountServiceAccountToken"] is False
    # Else Kubernetes sets SEED_OAUTH_PORT=tcp://… for the Service, which is no port number.
    assert pod(objects)["enableServiceLinks"] is False
    # Throttling looks like a slow identity provider: no limit of the CPU.
    assert container(objects)["resources"]["limits"].keys() == {"memory"}
    assert container(objects)["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.real_parts("kustomize")
def test_what_is_secret_is_in_the_secret_and_nowhere_else(objects: Objects) -> None:
    secret = {"SEED_OAUTH_IDP_CLIENT_SECRET", "SEED_OAUTH_SECRET_KEYS", "SEED_OAUTH_STORE_URL"}
    assert in_the_secret().keys() == secret
    assert not objects["ConfigMap"]["data"].keys() & secret
    config, named = container(objects)["envFrom"]
    assert config == {"configMapRef": {"name": objects["ConfigMap"]["metadata"]["name"]}}
    assert named == {"secretRef": {"name": "seed-oauth"}}


@pytest.mark.real_parts("kustomize")
def test_the_overlay_of_the_how_to_renders_and_a_changed_setting_starts_new_pods(
    one_pod: Objects, tmp_path: Path
) -> None:
    overlay = re.search(r"<!-- overlay -->\n```yaml\n(.*?)```", OPERATIONS, re.DOTALL)
    assert overlay
    (tmp_path / "kubernetes").symlink_to(FOLDER)
    changed: list[Objects] = []
    for workers in ("2", "4"):
        folder = tmp_path / f"overlay-{workers}"
        folder.mkdir()
        text = overlay[1] + f"      - SEED_OAUTH_WORKERS={workers}\n"
        (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
        changed.append(render(folder))
    same, other = changed
    assert container(same)["image"] == "ghcr.io/you/seed-oauth:0.1.0"
    assert same["ConfigMap"] == one_pod["ConfigMap"]  # the page shows the settings as the base has them
    assert other["ConfigMap"]["metadata"]["name"] != same["ConfigMap"]["metadata"]["name"]
