"""A model that finds nothing could be one that cannot: so bugs are put into a copy of the source, for it to find."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.seeded_bugs import BUGS, SeededBug

ROOT = Path(__file__).parents[2]

PATIENCE = 1_200  # seconds; most bugs are found within ten, and how busy the machine is has nothing to do with it


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_model_finds_a_bug_within_a_thousand_walks_and_names_the_promise_it_breaks(
    bug: SeededBug, tmp_path: Path
) -> None:
    """THREATS 1, 2, 3, 4, 5, 7, 8 and 17, as they would look if the door let them happen."""
    package = tmp_path / "seed_oauth"
    shutil.copytree(ROOT / "src" / "seed_oauth", package, ignore=shutil.ignore_patterns("__pycache__"))
    for change in bug.changes:
        module = package / change.module
        source = module.read_text()
        assert source.count(change.before) == 1, f"{change.module} has changed: put this bug in anew"
        module.write_text(source.replace(change.before, change.after))
    # The predictions might give the bug away before the promise: this is about the promise.
    told = _walked(tmp_path, *(() if bug.broken == "counts equal requests" else ("--promises-alone",)))
    assert re.search(f"AssertionError: {bug.broken}", told), re.findall("AssertionError.*", told)


def _walked(source: Path, *options: str) -> str:
    """What the model says when it walks with the package in `source`."""
    # Coverage is of the real source, so its variables stay behind.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "SEED_OAUTH_"))}
    run = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-m", "tests.model.walk", *options],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return run.stdout + run.stderr
