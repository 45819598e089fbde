"""The programs of `node/`: where their packages are, and the command that runs one."""

import shutil
from pathlib import Path

from tests.real_parts import NODE_PACKAGES

SOURCE = Path(__file__).parent / "node"


def packages() -> Path:
    """Where the npm packages are."""
    return NODE_PACKAGES / "node_modules"


def node() -> str:
    """The Node that comes with the packages."""
    return str(packages() / ".bin" / "node")


def node_command(folder: Path, program: str, *arguments: str) -> list[str]:
    """The command that runs a program of `node/` from `folder`."""
    # Node looks for packages beside the program.
    copy = shutil.copy(SOURCE / program, folder)
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(packages())
    return [node(), str(copy), *arguments]
