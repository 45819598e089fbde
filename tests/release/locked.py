"""The runtime dependencies that are locked, and whose hashes are."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def requirements(path: str) -> list[Requirement]:
    """The lines of a lock file, without the hashes."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix(" \\")) for line in lines if not line.startswith((" ", "#"))]


def locked(path: str = "requirements.txt") -> dict[str, str]:
    """The version of each package that this machine would install, by its name."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements(path)
        if requirement.marker is None or requirement.marker.evaluate()
    }
