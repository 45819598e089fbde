"""The pages of the documentation, and how the generated ones are compared or, with `UPDATE_DOCS=1`, written."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


def read(*paths: str) -> str:
    """The text of pages below docs/, one after the other."""
    return "\n".join((DOCS / path).read_text(encoding="utf-8") for path in paths)


def block(text: str, mark: str) -> str:
    """The code block under an HTML comment."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"there is no block {mark}"
    return found[1]


def section(text: str, title: str) -> str:
    """What follows a heading, up to the next one of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section {title}"
    return found[2]


def expect(path: Path, generated: str) -> None:
    """Compare a generated page with the one in the repository."""
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(generated, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == generated, f"{path.name} is out of date: UPDATE_DOCS=1 writes it"


def table(*rows: Iterable[str]) -> str:
    """A table whose first row is the header."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * head.count(" | ") + "---|", *body]) + "\n"


def code(text: object) -> str:
    """A literal in Markdown."""
    return f"`{text}`"


def links(text: str) -> Iterator[str]:
    """The relative targets of links, without their anchors."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            yield target.partition("#")[0]
