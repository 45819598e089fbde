"""The programs of `node/`: where their packages are, and the command that runs one."""

import hashlib
import shutil
from pathlib import Path

from tests.integration.real_parts import CACHE, INSTALL, cached_part

SOURCE = Path(__file__).parent / "node"


def packages() -> Path:
    """Where the npm packages are. Without them the test is skipped, but where CI=true it fails."""
    pins = (SOURCE / "package.json").read_bytes() + (SOURCE / "package-lock.json").read_bytes()
    return cached_part(CACHE / f"node-{hashlib.sha256(pins).hexdigest()[:16]}", install=INSTALL) / "node_modules"


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
