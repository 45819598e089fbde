"""Expressions that have no place in plain technical English stay out of the documentation and of what the code says."""

import ast
import re
from collections.abc import Iterator

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

PROSE = [*PAGES, *ROOT_PAGES, ROOT / "otel/runbooks.md"]
SOURCES = sorted((ROOT / "src/seed_oauth").rglob("*.py"))

# Fenced code, inline code and the targets of links are not prose.
LITERAL = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)


def banned(text: str) -> list[str]:
    """Every banned expression with the words around it."""
    text = " ".join(text.split())
    return [text[max(0, found.start() - 30) : found.end() + 30] for found in BAN.finditer(text)]


def strings(source: str) -> Iterator[str]:
    """The docstrings and messages of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("expression", ["one scrape tells of all", "a name that is no setting", "the upstream token"])
def test_a_banned_expression_is_found(expression: str) -> None:
    assert banned(f"Some text, and {expression} in it.")


@pytest.mark.parametrize("expression", ["there is no lock", "the key is no longer used", "a value for none of these"])
def test_a_plain_expression_is_not(expression: str) -> None:
    assert not banned(f"Some text, and {expression} in it.")


def test_the_documentation_is_plain_english() -> None:
    found = {str(path.relative_to(ROOT)): banned(LITERAL.sub("", path.read_text(encoding="utf-8"))) for path in PROSE}
    assert not {path: turns for path, turns in found.items() if turns}


def test_docstrings_and_messages_are_plain_english() -> None:
    found = {
        str(path.relative_to(ROOT)): [
            turn for text in strings(path.read_text(encoding="utf-8")) for turn in banned(text)
        ]
        for path in SOURCES
    }
    assert not {path: turns for path, turns in found.items() if turns}
