"""The alerts link to the runbooks on the site, whose address is stated in docs/conf.py alone."""

import re
from pathlib import Path

import pytest

from tests.docs.alert_links import RUNBOOKS, SITE
from tests.docs.pages import ROOT, expect, read

OTEL = ROOT / "otel"
FILES = [OTEL / "slos.yaml", OTEL / "rules/alerts.yaml", *sorted((OTEL / "rules/tests").glob("*.yaml"))]
LINK = re.compile(r"(?<=runbook_url: )(&\w+ )?[^*\s]\S*#")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_runbook_url_is_on_the_site(file: Path) -> None:
    expect(file, LINK.sub(rf"\g<1>{RUNBOOKS}#", file.read_text(encoding="utf-8")))


def test_a_link_is_changed_also_where_it_has_an_anchor() -> None:
    assert LINK.sub(r"\g<1>NEW#", "runbook_url: &a https://old.example/page#x") == "runbook_url: &a NEW#x"
    assert LINK.sub(r"\g<1>NEW#", "runbook_url: *a") == "runbook_url: *a"


def test_the_documentation_names_the_address_that_is_to_be_replaced() -> None:
    assert f"sed -i 's|{SITE}|" in read("how-to/alerts.md")
