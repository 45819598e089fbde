"""The programs besides Python that tests run: what each part consists of, how to get it, and which tests need it.

A test that runs one is marked with it: `@pytest.mark.real_parts("redis")`. `tests/conftest.py` leaves such tests out of
the default run, skips them where the part is missing, and lets them fail instead where `CI=true`.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CACHE = Path.home() / ".cache" / "seed-oauth"


def _hash(*files: str) -> str:
    """What an install script names a folder in the cache after."""
    return hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in files)).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """Programs on the PATH and files in the cache that come together."""

    install: str
    programs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def missing(self) -> list[str]:
        """The names of what is not there."""
        programs = [name for name in self.programs if _which(name) is None]
        return programs + [file.name for file in self.files if not file.exists()]


COLLECTOR = CACHE / f"otelcol-{_hash('otel/builder.yaml')}"
KEYCLOAK = CACHE / "keycloak-26.4.0"
HELM = CACHE / "helm-v3.22.0"
KUSTOMIZE = CACHE / "kustomize-v5.7.1"
PROMETHEUS_3 = CACHE / "prometheus-v0.305.0"
VICTORIAMETRICS = CACHE / "victoria-metrics-v1.136.23"
_REVERSE_PROXIES = CACHE / f"reverse-proxies-{_hash('tests/integration/reverse_proxies.txt')}"
ENVOY = _REVERSE_PROXIES / "envoy" / "_bin" / "envoy"
TRAEFIK = _REVERSE_PROXIES / "bin" / "traefik"
_NODE = "tests/integration/node"
PYTHON_PACKAGES = CACHE / f"python-{_hash('tests/integration/python/requirements.txt')}"
NODE_PACKAGES = CACHE / f"node-{_hash(f'{_NODE}/package.json', f'{_NODE}/package-lock.json')}"

PARTS: Mapping[str, Part] = {
    "alertmanager": Part("apt-get install prometheus-alertmanager", ("prometheus-alertmanager", "amtool")),
    "caddy": Part("apt-get install caddy", ("caddy",)),
    "chromium": Part("apt-get install chromium", ("chromium",)),
    "collector": Part("bash otel/build-collector.sh", files=(COLLECTOR,)),
    "envoy and traefik": Part("bash tests/integration/install.sh", files=(ENVOY, TRAEFIK)),
    "haproxy": Part("apt-get install haproxy", ("haproxy",)),
    "helm": Part("bash tests/integration/install.sh", files=(HELM,)),
    "jdk": Part("apt-get install default-jdk-headless", ("java", "javac")),
    "keycloak": Part(
        "apt-get install default-jdk-headless maven && bash tests/integration/install.sh", ("java",), (KEYCLOAK,)
    ),
    "kustomize": Part("bash tests/integration/install.sh", files=(KUSTOMIZE,)),
    "nginx": Part("apt-get install nginx-light", ("nginx",)),
    "node": Part("apt-get install nodejs npm && bash tests/integration/install.sh", files=(NODE_PACKAGES,)),
    "prometheus": Part("apt-get install prometheus", ("prometheus", "promtool")),
    "prometheus 3": Part("bash tests/integration/install.sh", files=(PROMETHEUS_3,)),
    "python packages": Part("bash tests/integration/install.sh", files=(PYTHON_PACKAGES,)),
    "redis": Part("apt-get install redis-server redis-sentinel", ("redis-server", "redis-sentinel", "redis-cli")),
    "release": Part(
        ".venv/bin/pip install -c constraints.txt -e '.[dev,release]'",
        ("pyproject-build", "cyclonedx-py", "pip-audit", "kubernetes-validate"),
    ),
    "systemd": Part("apt-get install systemd", ("systemd-analyze",)),
    "victoriametrics": Part("bash tests/integration/install.sh", files=(VICTORIAMETRICS,)),
    "valgrind": Part("apt-get install valgrind", ("valgrind", "vgdb")),
    "wrk": Part("apt-get install wrk", ("wrk",)),
}


def parts_of(item: pytest.Item) -> list[str]:
    """The parts that a test is marked with."""
    return sorted({part for mark in item.iter_markers("real_parts") for part in mark.args})


_marked: set[str] = set()


def look_for(parts: Collection[str]) -> str | None:
    """Let the test that begins run programs of these parts. What is missing and how to get it; None if nothing is."""
    _marked.clear()
    _marked.update(parts)
    missing = {part: names for part in parts if (names := PARTS[part].missing())}
    return "; ".join(f"{', '.join(names)} missing: {PARTS[part].install}" for part, names in missing.items()) or None


def path_of(name: str) -> str:
    """Where a program is. The test must be marked with its part, and so was not begun without it."""
    path = _which(name)
    assert path
    assert any(name in PARTS[part].programs for part in _marked), f"mark the test with real_parts: it runs {name}"
    return path


def _which(name: str) -> str | None:
    # Tools of Python's own may be in an environment that is not on the PATH.
    return shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
