"""Without the real parts the tests that need them are skipped, each with the command that brings its part."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_parts import PARTS, ROOT

pytestmark = pytest.mark.slow

FILES = [
    "tests/cli/doctor/test_doctor.py",
    "tests/deployment/test_deployment.py",
    "tests/deployment/test_kubernetes.py",
    "tests/deployment/test_systemd.py",
    "tests/integration/test_benchmarks.py",
    "tests/integration/test_forward_auth.py",
    "tests/integration/test_instructions.py",
    "tests/integration/test_java_client.py",
    "tests/integration/test_nginx.py",
    "tests/integration/test_pages_in_chromium.py",
    "tests/integration/test_whole_path.py",
]
HIDDEN = {name: part for name, part in PARTS.items() if name != "release"}  # whose tools come beside Python
"""What is found on the PATH, or in the cache below the home."""


@pytest.mark.parametrize("ci", ["false", "true"])
def test_a_part_that_is_missing_is_skipped_with_its_command_and_fails_in_ci(ci: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-m", "real_parts", *FILES]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    run = subprocess.run(  # noqa: S603 - this suite
        command,
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path), "PATH": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    ends = r"\d+ deselected, \d+ errors" if ci == "true" else r"\d+ skipped, \d+ deselected"
    assert re.search(rf"^=+ {ends} in .* =+$", run.stdout, re.MULTILINE), run.stdout
    for part in HIDDEN.values():
        assert f"missing: {part.install}" in run.stdout
