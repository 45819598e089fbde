"""Links between pages and to files lead somewhere, also where nobody has built the site."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, ROOT_PAGES, links


@pytest.mark.parametrize("page", [*PAGES, *ROOT_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target
