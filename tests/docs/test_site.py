"""The site that Sphinx builds: without a warning, complete, and without a request to anywhere else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT

BUILD = shutil.which("sphinx-build", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
MISSING = "sphinx-build is missing: .venv/bin/pip install -c constraints.txt -e '.[dev,docs]'"

pytestmark = pytest.mark.skipif(BUILD is None and os.environ.get("CI") != "true", reason=MISSING)

# What a browser fetches by itself, as opposed to links that a person follows.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)|<link\b(?![^>]*\bcanonical)[^>]*\bhref=\"([^\"]*)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert BUILD, MISSING
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(  # noqa: S603 - the project's own documentation
        [BUILD, "-q", "-W", "--keep-going", "-d", folder / "doctrees", "docs", folder / "html"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert (made.returncode, made.stdout) == (0, "")
    return folder / "html"


def test_every_page_is_built_and_can_be_searched(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix("")
        assert (site / name).with_suffix(".html").is_file()
        assert f'"{name}"' in index


def test_the_first_page_leads_to_every_page(site: Path) -> None:
    first = (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix(".html")
        assert str(name) == "index.html" or f'href="{name}"' in first, name


def test_no_page_asks_anybody_else_for_anything(site: Path) -> None:
    for path in site.rglob("*.html"):
        fetched = ["".join(match) for match in FETCHED.findall(path.read_text(encoding="utf-8"))]
        assert fetched
        assert not [url for url in fetched if re.match(r"\w+:|//", url)], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path.name
