"""The layout in CONTRIBUTING is the output of `tree -L 2`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT, expect

PAGE = ROOT / "CONTRIBUTING.md"
PACKAGE = ROOT / "src/seed_oauth"
TREE = re.compile(r"(?<=<!-- tree -->\n```text\n).*?(?=```)", re.DOTALL)


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name not in {"__pycache__", ".DS_Store"})


def lines(folder: Path, depth: int, indent: str = "") -> Iterator[str]:
    """The entries of a folder as `tree` draws them."""
    paths = entries(folder)
    for path in paths:
        last = path is paths[-1]
        yield f"{indent}{'└── ' if last else '├── '}{path.name}"
        if path.is_dir() and depth > 1:
            yield from lines(path, depth - 1, indent + ("    " if last else "│   "))


def test_the_layout_is_the_tree_of_the_package() -> None:
    drawn = "\n".join(["src/seed_oauth", *lines(PACKAGE, 2)]) + "\n"
    expect(PAGE, TREE.sub(lambda _: drawn, PAGE.read_text(encoding="utf-8"), count=1))


def test_every_folder_says_what_it_is_for() -> None:
    for folder in entries(PACKAGE):
        if folder.is_dir():
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder.name
