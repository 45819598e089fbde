"""The workflows of the forge: they run `.ci/run`, all of it, with no more rights than they need."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own

from tests.real_parts import ROOT

WORKFLOWS = ROOT / ".github/workflows"
CI = yaml.safe_load((WORKFLOWS / "ci.yml").read_text(encoding="utf-8"))
RELEASE = yaml.safe_load((WORKFLOWS / "release.yml").read_text(encoding="utf-8"))


def steps() -> Iterator[dict[str, Any]]:
    for workflow in (CI, RELEASE):
        for job in workflow["jobs"].values():
            yield from job.get("steps", [])


def steps_of_ci_run() -> set[str]:
    """The steps that the workflow names."""
    commands = "\n".join(step.get("run", "") for job in CI["jobs"].values() for step in job["steps"])
    return set(re.findall(r"gates|docs|demo|parts|tests", " ".join(re.findall(r"bash \.ci/run ([a-z ]+)", commands))))


def test_the_workflow_runs_every_step_of_the_script() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert steps_of_ci_run() == set(re.findall(r"^([a-z]+)\(\) \{$", script, re.MULTILINE))


def test_every_test_is_run_once() -> None:
    parts = [part["options"].split() for part in CI["jobs"]["tests"]["strategy"]["matrix"]["include"]]
    *some, (everything, *ignored) = parts
    named = [folder for part in some for folder in part]
    assert everything == "tests"
    assert sorted(ignored) == sorted(f"--ignore={folder}" for folder in named)
    assert all((ROOT / folder).is_dir() for folder in named)


def test_actions_are_pinned_by_commit() -> None:
    """A tag can be moved to other code."""
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)


def test_the_workflows_can_only_read_unless_a_job_says_why() -> None:
    assert CI["permissions"] == RELEASE["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in CI["jobs"].values())
    assert {name for name, job in RELEASE["jobs"].items() if "permissions" in job} == {"build", "publish"}
    assert all(step["with"]["persist-credentials"] is False for step in steps() if "checkout" in step.get("uses", ""))


def test_a_release_is_tested_built_once_and_attested_before_it_is_published() -> None:
    jobs = RELEASE["jobs"]
    assert (jobs["publish"]["needs"], jobs["build"]["needs"], jobs["ci"]["uses"]) == (
        "build",
        "ci",
        "./.github/workflows/ci.yml",
    )
    built = [step.get("uses", step.get("run", "")).partition("@")[0] for step in jobs["build"]["steps"]]
    release = next(number for number, step in enumerate(built) if "bash .ci/release" in step)
    assert built[release + 1 :] == ["actions/attest-build-provenance", "actions/upload-artifact"]


@pytest.mark.parametrize("arguments", [["nonsense"], ["gates", "nonsense"], ["tests", "gates", "nonsense"]])
def test_the_script_refuses_a_step_that_it_does_not_have(arguments: list[str], tmp_path: Path) -> None:
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    script.write_bytes((ROOT / ".ci/run").read_bytes())
    told = subprocess.run(  # noqa: S603 - ours
        ["bash", script, *arguments],  # noqa: S607 - the shell on PATH
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "nonsense is none of its steps: parts, gates, docs, demo, tests" in told.stderr
