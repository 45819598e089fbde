"""Findings of the doctor and their output."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seed_oauth.identity_provider.failures import said_in


class Status(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "cannot tell"
    """The check ran without a clear result."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and its result. The texts never contain a secret."""

    check: str
    status: Status
    text: str
    remedy: str = ""
    """What to change, and where."""


def ok(check: str, text: str) -> Finding:
    """The check passed."""
    return Finding(check, Status.OK, text)


def warning(check: str, text: str, remedy: str) -> Finding:
    """Logins work, but something should be changed."""
    return Finding(check, Status.WARNING, text, remedy)


def failed(check: str, text: str, remedy: str) -> Finding:
    """Logins cannot succeed until this is fixed."""
    return Finding(check, Status.FAILED, text, remedy)


def unknown(check: str, text: str, remedy: str) -> Finding:
    """The check ran without a clear result."""
    return Finding(check, Status.UNKNOWN, text, remedy)


def skipped(check: str, text: str) -> Finding:
    """The check did not run; `text` says why."""
    return Finding(check, Status.SKIPPED, text)


def quoted(members: Mapping[str, object]) -> str:
    """What the identity provider says of an error, in its own words."""
    said = said_in(members)
    return ": ".join(str(said[name]) for name in ("idp_error", "idp_said") if name in said)


_MARKS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.FAILED: ("✗", "bold red"),
    Status.UNKNOWN: ("?", "cyan"),
    Status.SKIPPED: ("-", "dim"),
}


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether a check failed."""
    return any(finding.status is Status.FAILED for finding in findings)


def about(findings: Iterable[Finding], checks: Collection[str]) -> list[Finding]:
    """Those of these checks, and what is wrong with the settings, without which no other check runs."""
    return [
        finding
        for finding in findings
        if finding.check in checks or (finding.check == "settings" and finding.status is Status.FAILED)
    ]


def as_json_text(findings: Sequence[Finding]) -> str:
    """The findings as a JSON array."""
    return orjson.dumps([asdict(finding) for finding in findings], option=orjson.OPT_INDENT_2).decode()


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings as a table, each with its remedy below it."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for finding in findings:
        mark, style = _MARKS[finding.status]
        text = Text(finding.text)
        if finding.status in {Status.UNKNOWN, Status.SKIPPED}:
            text = Text(f"{finding.status}: {finding.text}")
        if finding.remedy:
            text.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(mark, style=style), Text(finding.check, style=style), text)
    console.print(table)
    console.print(Text(_summary(findings), style="bold"))


def _summary(findings: Sequence[Finding]) -> str:
    counts = [(status, sum(finding.status is status for finding in findings)) for status in Status]
    return ", ".join(f"{count} {status}" for status, count in counts if count)
