"""Tests cite the rows of the protocol page and the attacks of the threat model; a test cites each of these."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"

IMPLEMENTED, _, PLANNED = (DOCS / "reference/protocol.md").read_text(encoding="utf-8").partition("\n## Planned\n")
THREAT_MODEL = (DOCS / "explanation/threat-model.md").read_text(encoding="utf-8")


def rows(page: str) -> list[str]:
    """The names of the rows in the tables of the protocol page, such as A6."""
    return re.findall(r"^\| ([A-Z]\d+) \|", page, re.MULTILINE)


PROTOCOL = rows(IMPLEMENTED)
THREATS: dict[str, str] = dict(re.findall(r"^### (\d+)\. (.*)$", THREAT_MODEL, re.MULTILINE))
"""The numbered attacks of the threat model, with their titles."""

CITATION = re.compile(r"\b(PROTOCOL|THREATS) ([A-Z]?\d+(?:(?:, | and )[A-Z]?\d+)*)")


def docstrings_of_tests() -> Iterator[str]:
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


def cited() -> set[tuple[str, str]]:
    """Every row that the docstring of a test cites, with the list that it is of."""
    return {
        (name, row)
        for docstring in docstrings_of_tests()
        for name, rows in CITATION.findall(docstring)
        for row in re.split(", | and ", rows)
    }


def test_every_row_has_a_test_that_cites_it_and_every_citation_a_row() -> None:
    assert PROTOCOL
    assert THREATS
    assert cited() == {("PROTOCOL", row) for row in PROTOCOL} | {("THREATS", row) for row in THREATS}


def test_every_row_has_one_name() -> None:
    names = [*PROTOCOL, *rows(PLANNED)]
    assert len(names) == len(set(names))


def test_the_divergences_name_rows() -> None:
    page = (DOCS / "explanation/divergences.md").read_text(encoding="utf-8")
    named = re.findall(r"^- \*\*(.*?)\*\*", page, re.MULTILINE)
    assert named
    assert {row for names in named for row in names.split(", ")} <= set(PROTOCOL)
