"""The programs of `python/`, which have packages of their own: the command that runs one."""

from pathlib import Path

from tests.real_parts import PYTHON_PACKAGES

SOURCE = Path(__file__).parent / "python"


def packaged_command(program: str, *arguments: str) -> list[str]:
    """The command that runs a program of `python/` with its packages."""
    return [str(PYTHON_PACKAGES / "bin" / "python"), str(SOURCE / program), *arguments]
