"""What was measured at which commit, as ratios: `history.jsonl`, one line for each measured change.

    python tests/bench/history.py

prints how each ratio has gone. Lines are added by `--record` of the other programs here, when a change is measured.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import table

FILE = Path(__file__).with_name("history.jsonl")
LIBRARIES = ("starlette", "uvicorn", "aiohttp", "httpx", "opentelemetry-sdk", "structlog")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of one benchmark."""

    date: str
    commit: str
    """What was measured; `+` says that there were changes which are committed with the entry."""
    benchmark: str
    machine: str
    versions: Mapping[str, str]
    ratios: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)
    """The CPU microseconds that the ratios come from."""


def append(
    benchmark: str,
    ratios: Mapping[str, float],
    *,
    costs: Mapping[str, float] | None = None,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Add what was measured just now; `versions` are those of peers."""
    entry = Entry(
        date=datetime.now(UTC).date().isoformat(),
        commit=_git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "src") else ""),
        benchmark=benchmark,
        machine=machine(),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            **(versions or {}),
        },
        ratios={name: round(ratio, 4) for name, ratio in ratios.items()},
        costs={name: round(cost, 1) for name, cost in (costs or {}).items()},
    )
    with FILE.open("a") as file:
        file.write(json.dumps(asdict(entry)) + "\n")


def entries(benchmark: str) -> list[Entry]:
    """The runs of one benchmark, the newest last."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return [entry for line in lines if (entry := Entry(**json.loads(line))).benchmark == benchmark]


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} CPUs {model or platform.machine()}, Linux {platform.release()}"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(FILE.parents[2]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def over_time(runs: Sequence[Entry]) -> str:
    """How each ratio has gone: a line for each, as there are more of them than of runs worth looking at."""
    names = dict.fromkeys(name for run in runs for name in run.ratios)
    rows = {
        name: {f"{run.date} {run.commit}": run.ratios[name] for run in runs if name in run.ratios} for name in names
    }
    return table.figures(rows, tuple(f"{run.date} {run.commit}" for run in runs), corner="ratio")


def main() -> None:
    for benchmark in ("goals", "instructions", "cpu", "broker", "workers", "workers_start"):
        runs = entries(benchmark)
        if not runs:
            continue
        print(f"{benchmark}, {runs[-1].machine}, Python {runs[-1].versions['python']}\n")
        print(over_time(runs), end="\n\n")


if __name__ == "__main__":
    main()
