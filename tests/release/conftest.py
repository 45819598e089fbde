"""The release that `.ci/release` makes, once for all tests of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """An environment with the tools of a release on its PATH: those beside this Python, or those there anyway."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        return dict(os.environ)


@pytest.fixture(scope="session")
def release(tools: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with everything that belongs to a release."""
    folder = tmp_path_factory.mktemp("release")
    made = subprocess.run(  # noqa: S603 - the project's own script
        ["bash", ROOT / ".ci/release", folder],  # noqa: S607 - the shell on PATH, as .ci/run has it
        env=tools, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    return folder
