"""The runbook of an alert, as `seed-oauth doctor --alert` shows it."""

import re
from importlib.resources import files
from typing import NamedTuple

_SECTION = re.compile(r"^## (\w+)\n\n<!-- doctor: ([\w ,]+) -->\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


class Runbook(NamedTuple):
    """What an alert means, and what to do."""

    alert: str
    checks: frozenset[str]
    """Names of the doctor's checks that bear on it."""
    text: str
    """In Markdown."""


def runbooks() -> dict[str, Runbook]:
    """All runbooks, by the name of the alert."""
    text = files("seed_oauth.cli.doctor").joinpath("runbooks.md").read_text(encoding="utf-8")
    return {
        alert: Runbook(alert, frozenset(checks.split(", ")), section.strip())
        for alert, checks, section in _SECTION.findall(text)
    }
