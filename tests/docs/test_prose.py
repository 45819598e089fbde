"""Expressions that have no place in plain technical English stay out of the documentation and of what the code says."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, ROOT_PAGES

BANNED = [
    r"tells? of\b",
    r"a part only",
    r"of ours\b",
    r"which way\b",
    r"(?<!there )is no (?!longer\b)",
    r"(?<!there )(is|are) (?-i:none)\b",
    r"the door (tells|says|hears|knows|believes|asks)\b",
    r"holds? up\b",
    r"puts? out\b",
    r"has its say\b",
    r"that one alone",
    r"hears? (40|41|42|50)\d",
    r"some \d+",
    r"what comes? of\b",
    r"upstream",
]
BAN = re.compile(rf"\b({'|'.join(BANNED)})", re.IGNORECASE)

PROSE = [*PAGES, *ROOT_PAGES, ROOT / "src/seed_oauth/cli/doctor/runbooks.md"]
SOURCES = sorted((ROOT / "src/seed_oauth").rglob("*.py"))

# Fenced code, inline code and the targets of links are not prose.
LITERAL = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)


def banned(path: Path, texts: Iterable[str]) -> Iterator[str]:
    """Every banned expression in the texts of a file, with the words around it."""
    for text in texts:
        line = " ".join(text.split())
        for found in BAN.finditer(line):
            yield f"{path.relative_to(ROOT)}: {line[max(0, found.start() - 30) : found.end() + 30]}"


def strings(source: str) -> Iterator[str]:
    """The docstrings and messages of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("expression", ["one scrape tells of all", "a name that is no setting", "the upstream token"])
def test_a_banned_expression_is_found(expression: str) -> None:
    assert BAN.search(f"Some text, and {expression} in it.")


@pytest.mark.parametrize("expression", ["there is no lock", "the key is no longer used", "a value for none of these"])
def test_a_plain_expression_is_not(expression: str) -> None:
    assert not BAN.search(f"Some text, and {expression} in it.")


def test_the_documentation_is_plain_english() -> None:
    found = [one for path in PROSE for one in banned(path, [LITERAL.sub("", path.read_text(encoding="utf-8"))])]
    assert not found, "\n".join(found)


def test_docstrings_and_messages_are_plain_english() -> None:
    found = [one for path in SOURCES for one in banned(path, strings(path.read_text(encoding="utf-8")))]
    assert not found, "\n".join(found)
