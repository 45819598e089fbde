"""What is applied to a cluster is what Kubernetes' own schemas allow, and no field beside them."""

import subprocess
from pathlib import Path

import pytest

from tests.deployment.test_kubernetes import FOLDER, OVERLAYS
from tests.docs.pages import block, read
from tests.real_parts import HELM, KUSTOMIZE, ROOT

OLDEST, NEWEST = "1.30", "1.37"
CHART = ("template", "seed-oauth", ROOT / "otel/helm", "--kube-version", "1.30.0")

pytestmark = pytest.mark.real_parts("release")


def rendered(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a fixed program


def validated(manifest: str, file: Path, version: str) -> subprocess.CompletedProcess[str]:
    file.write_text(manifest, encoding="utf-8")
    command = ["kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", version, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed program


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    "options",
    [[], ["--set", "replicas=3", "--set", "podMonitor=true"]],
    ids=["one pod", "many pods"],
)
@pytest.mark.real_parts("helm")
def test_kubernetes_accepts_what_the_chart_renders(options: list[str], version: str, tmp_path: Path) -> None:
    told = validated(rendered(HELM, *CHART, *options), tmp_path / "rendered.yaml", version)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.real_parts("kustomize")
def test_kubernetes_accepts_what_kustomize_renders(overlay: str, version: str, tmp_path: Path) -> None:
    told = validated(rendered(KUSTOMIZE, "build", FOLDER / overlay), tmp_path / "rendered.yaml", version)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.real_parts("helm")
def test_a_field_that_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    manifest = rendered(HELM, *CHART).replace("readinessProbe:", "readynessProbe:")
    told = validated(manifest, tmp_path / "rendered.yaml", OLDEST)
    assert told.returncode != 0
    assert "readynessProbe" in told.stdout + told.stderr


def test_kubernetes_accepts_the_ingress_of_the_how_to(tmp_path: Path) -> None:
    told = validated(block(read("how-to/kubernetes.md"), "ingress"), tmp_path / "ingress.yaml", NEWEST)
    assert told.returncode == 0, told.stdout + told.stderr
