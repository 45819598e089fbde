"""The locked runtime dependencies: complete, the same in both lock files, hashed, and under licences that permit."""

import os
import re
import tomllib
from importlib.metadata import distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.release.locked import locked, requirements

ROOT = Path(__file__).parents[2]
LICENCES = ROOT / "docs" / "reference" / "licences.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Permissive, but for MPL-2.0: that asks for the source of its own files only, which are used as published.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0",
}  # fmt: skip

# What packages say that have no SPDX expression.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}


def needed() -> set[str]:
    """The packages that the project needs on this machine, directly or not."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in PROJECT["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        extras = [*requirement.extras, ""]
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            waiting += [
                Requirement(line) for line in distribution(name).requires or [] if not re.search(r"extra *==", line)
            ]
    return found


def licence(package: str) -> str:
    """The licence of an installed package as an SPDX expression."""
    said = metadata(package)
    if said["License-Expression"]:
        return str(said["License-Expression"])
    classified = [name.rpartition(" :: ")[2] for name in said.get_all("Classifier", []) if "License ::" in name]
    stated = str(said["License"] or classified[0])
    return SPDX.get(stated, stated)


def test_the_lock_with_hashes_is_what_the_project_needs() -> None:
    assert locked().keys() == needed()


def test_both_lock_files_have_the_same_versions() -> None:
    everything = {(one.name, str(one.specifier)) for one in requirements("constraints.txt")}
    assert {(one.name, str(one.specifier)) for one in requirements("requirements.txt")} <= everything


def test_every_locked_package_has_hashes() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert len(re.findall(r"^\S.* \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(
        requirements("requirements.txt")
    )


def test_the_licences_of_all_runtime_dependencies_are_on_their_page() -> None:
    rows = "".join(f"| {package} | {licence(package)} |\n" for package in sorted(locked()))
    page = (
        "# Licences\n\nThe packages that an installation on Linux includes, and their licences. This page is\n"
        f"generated from their metadata.\n\n| package | licence |\n|---|---|\n{rows}\n"
        "The page of the metrics listener includes [uPlot](https://github.com/leeoniya/uPlot), under the MIT licence.\n"
    )
    if os.environ.get("UPDATE_DOCS"):
        LICENCES.write_text(page, encoding="utf-8")
    assert LICENCES.read_text(encoding="utf-8") == page


def test_every_runtime_dependency_is_under_a_licence_that_permits() -> None:
    for package in locked():
        names = set(re.findall(r"[\w.-]+", licence(package))) - {"AND", "OR", "WITH"}
        assert names <= PERMISSIVE, f"{package}: {licence(package)}"
