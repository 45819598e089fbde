"""What the doctor finds, and how it is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "cannot tell"
    """It was tried, and the answer does not say."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what came of it. No text ever has a secret in it."""

    check: str
    status: Status
    text: str
    remedy: str = ""
    """What to change, and where."""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Status.OK, text)


def warning(check: str, text: str, remedy: str) -> Finding:
    """It works, and yet."""
    return Finding(check, Status.WARNING, text, remedy)


def failed(check: str, text: str, remedy: str) -> Finding:
    """It will not work like this."""
    return Finding(check, Status.FAILED, text, remedy)


def unknown(check: str, text: str, remedy: str) -> Finding:
    """It cannot be told from here."""
    return Finding(check, Status.UNKNOWN, text, remedy)


def skipped(check: str, text: str) -> Finding:
    """It was not tried, and why."""
    return Finding(check, Status.SKIPPED, text)


_MARKS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.FAILED: ("✗", "bold red"),
    Status.UNKNOWN: ("?", "cyan"),
    Status.SKIPPED: ("-", "dim"),
}


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether anything has to be changed for logins to succeed."""
    return any(finding.status is Status.FAILED for finding in findings)


def as_json_text(findings: Sequence[Finding]) -> str:
    """The findings as a JSON array."""
    return orjson.dumps([asdict(finding) for finding in findings], option=orjson.OPT_INDENT_2).decode()


def show(findings: Sequence[Finding], console: Console) -> None:
    """The findings for the eye, each with what to change below it."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for finding in findings:
        mark, style = _MARKS[finding.status]
        told = Text(finding.text)
        if finding.status in {Status.UNKNOWN, Status.SKIPPED}:
            told = Text(f"{finding.status}: {finding.text}")
        if finding.remedy:
            told.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(mark, style=style), Text(finding.check, style=style), told)
    console.print(table)
    console.print(Text(_summary(findings), style="bold"))


def _summary(findings: Sequence[Finding]) -> str:
    counts = [(status, sum(finding.status is status for finding in findings)) for status in Status]
    return ", ".join(f"{count} {status}" for status, count in counts if count)
