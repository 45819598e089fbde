"""docs/reference/faults.md is generated from the faults that the tests of this folder cause."""

import os
from importlib import import_module
from pathlib import Path

from tests.faults.fault import Fault

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

INTRODUCTION = """\
# Faults

What can go wrong around the server, what the client sees, what is counted, and the state afterwards. This page is
generated from the tests in `tests/faults/`, which cause each fault.
"""


def sections() -> dict[str, list[Fault]]:
    """The faults by title, of every module here that has some."""
    found: dict[str, list[Fault]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path != Path(__file__):
            module = import_module(f"tests.faults.{path.stem}")
            found[module.TITLE] = module.FAULTS
    return found


def page() -> str:
    parts = [INTRODUCTION]
    for title, faults in sections().items():
        table = ["| fault | the client sees | counted | afterwards |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {title}", "", *table, *(fault.in_table() for fault in faults), ""]))
    return "\n".join(parts)


def test_the_page_of_faults_is_up_to_date() -> None:
    if os.environ.get("UPDATE_DOCS") == "1":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_fault_has_one_name() -> None:
    names = [fault.name for faults in sections().values() for fault in faults]
    assert len(names) == len(set(names))
