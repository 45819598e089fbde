"""Wheel and sdist: what is in them, that they are the same bytes each time, and that they work elsewhere."""

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
from email import message_from_string
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.release.locked import locked

pytestmark = pytest.mark.real_parts("release")

ROOT = Path(__file__).parents[2]
RELEASE = (ROOT / ".ci/release").read_text(encoding="utf-8")


def run(*command: str | Path, folder: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """What a program printed that has to succeed."""
    done = subprocess.run(  # noqa: S603 - fixed programs
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def in_git(*folders: str) -> set[str]:
    """The files that belong to the project, by their paths in it."""
    return set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders).splitlines())


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    (wheel,) = release.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(release: Path) -> Path:
    (sdist,) = release.glob("*.tar.gz")
    return sdist


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the source, with an environment `venv` in which the wheel is installed as users do it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=True)
    run(folder / "venv/bin/pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, folder=folder)
    return folder


@pytest.fixture(scope="module")
def clean() -> dict[str, str]:
    """The environment without what makes a Python find more than is installed."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "COV_"))}


def test_the_wheel_has_the_package_with_its_data_and_nothing_besides(wheel: Path) -> None:
    files = set(ZipFile(wheel).namelist())
    package = {name.removeprefix("src/") for name in in_git("src")}
    assert {"seed_oauth/py.typed", "seed_oauth/http/pages.css"} <= package
    assert {name for name in files if ".dist-info/" not in name} == package


def test_the_sdist_has_all_that_tests_and_documentation_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {name.split("/", 1)[1] for name in archive.getnames()}
    assert files - {"PKG-INFO"} == in_git()


def test_a_second_build_of_the_same_source_has_the_same_bytes(
    wheel: Path, sdist: Path, tools: dict[str, str], tmp_path: Path
) -> None:
    epoch = run("git", "log", "-1", "--format=%ct").strip()
    build = re.search(r"^pyproject-build .*(?= --outdir)", RELEASE, re.MULTILINE)
    assert build
    environment = {**tools, "SOURCE_DATE_EPOCH": epoch}
    run(*build[0].split(), "--outdir", tmp_path, environment=environment)
    for first in (wheel, sdist):
        assert (tmp_path / first.name).read_bytes() == first.read_bytes()


def metadata(wheel: Path) -> Message:
    archive = ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_string(archive.read(name).decode())


def test_the_metadata_says_what_it_is_and_what_it_needs(wheel: Path) -> None:
    said = metadata(wheel)
    assert (said["Name"], said["License-Expression"], said["License-File"]) == ("seed-oauth", "MIT", "LICENSE")
    assert said["Requires-Python"] == ">=3.11"
    assert said["Summary"]
    assert said["Description-Content-Type"] == "text/markdown"
    assert str(said.get_payload()).startswith("# seed_oauth\n")
    assert {"Typing :: Typed", "Topic :: Security"} <= set(said.get_all("Classifier", []))
    assert set(said.get_all("Provides-Extra", [])) == {"dev", "docs", "release"}
    assert said.get_all("Project-URL") is None  # the project has no address of its own that one could name


def test_installed_elsewhere_the_commands_work(elsewhere: Path, clean: dict[str, str]) -> None:
    command = elsewhere / "venv/bin/seed-oauth"
    assert "Usage: seed-oauth doctor" in run(command, "doctor", "--help", folder=elsewhere, environment=clean)
    run(command, "demo", "--once", "--port", "0", "--metrics-port", "0", folder=elsewhere, environment=clean)


def test_what_is_installed_is_the_wheel_and_is_typed(elsewhere: Path, clean: dict[str, str]) -> None:
    python = elsewhere / "venv/bin/python"
    where = run(python, "-c", "import seed_oauth; print(seed_oauth.__file__)", folder=elsewhere, environment=clean)
    assert Path(where.strip()).is_relative_to(elsewhere)
    (elsewhere / "uses_it.py").write_text("import seed_oauth\n\nreveal_type(seed_oauth.create_app)\n", encoding="utf-8")
    mypy: list[str | Path] = [sys.executable, "-m", "mypy", "--cache-dir", "mypy", "--python-executable", python]
    assert "-> starlette.applications.Starlette" in run(*mypy, "uses_it.py", folder=elsewhere, environment=clean)


def test_the_sdist_installs_to_the_same_files_as_the_wheel(
    sdist: Path, wheel: Path, elsewhere: Path, tmp_path: Path
) -> None:
    run(elsewhere / "venv/bin/pip", "install", "-q", "--no-deps", "--target", tmp_path, sdist)
    for name in ZipFile(wheel).namelist():
        if ".dist-info/" not in name:
            assert (tmp_path / name).read_bytes() == ZipFile(wheel).read(name), name


def test_the_sbom_names_every_locked_package_with_its_version_and_licence(release: Path) -> None:
    bom = json.loads((release / "seed-oauth.cdx.json").read_text(encoding="utf-8"))
    assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", "seed-oauth")
    components = {component["purl"]: component for component in bom["components"]}
    assert components.keys() == {f"pkg:pypi/{name}@{version}" for name, version in locked().items()}
    assert [purl for purl, component in components.items() if not component.get("licenses")] == []
