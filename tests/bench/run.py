"""CPU of the server process for each request, side by side with pinned peers, in one run.

    python tests/bench/run.py

Every contender runs as one process on loopback in front of the same stand-in identity provider and is loaded
by wrk; the cost is its user and system time from /proc, so it runs on Linux only. Machines are noisy: each
round measures every contender, the table has the medians, and only ratios within one run mean something.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import history
import table
from contenders import CONTENDERS, Contender, Site
from load import BenchmarkError, Request, ask, drive, measure, resident_megabytes
from login import valid_requests
from rich.console import Console
from rich.progress import Progress
from servers import free_port, running, uvicorn


@dataclass(frozen=True, kw_only=True)
class Load:
    request: str
    concurrency: int = 16
    exchanges: bool = False
    """Whether each answer takes one exchange with the identity provider."""


LOADS: Mapping[str, Load] = {
    "authorize": Load(request="authorize"),
    "token @16": Load(request="token", exchanges=True),
    "token @128": Load(request="token", exchanges=True, concurrency=128),
    "register": Load(request="register"),
    "refresh @16": Load(request="refresh", exchanges=True),
}
READY = "ready after start (s)"
MEMORY_AT_START = "RSS MB at start"
MEMORY_AFTER_LOAD = "RSS MB after load"
COLUMNS = (*LOADS, READY, MEMORY_AT_START, MEMORY_AFTER_LOAD)
BASELINES = ("typescript-sdk", "floor")

Samples = Mapping[str, Mapping[str, list[float]]]
"""Every figure that was measured, by contender and column."""


def benchmark(names: Collection[str], *, rounds: int, seconds: int, console: Console) -> Samples:
    """Measure the contenders in turns, so that a slow minute of the machine hits all of them.

    Raises:
        BenchmarkError: a figure would mean nothing.
    """
    samples: Samples = {name: defaultdict(list) for name in names}
    with identity_provider() as url, Progress(console=console) as progress:
        task = progress.add_task("measuring", total=rounds * len(names))
        for number in range(1, rounds + 1):
            for name in names:
                for column, figure in one_round(name, url, seconds):
                    samples[name][column].append(figure)
                    shown = table.in_figures(figure)
                    console.print(f"round {number}/{rounds}  {name:15} {column:22} {shown}")
                progress.advance(task)
    return samples


@contextmanager
def identity_provider() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ready = Request(url=f"{url}/exchanges", status=200)
    with (
        _temporary_folder() as folder,
        running(uvicorn("stand_in_idp:app", port), ready=ready, environment={}, folder=folder),
    ):
        yield url


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as folder:
        yield Path(folder)


def one_round(name: str, identity_provider: str, seconds: int) -> Iterator[tuple[str, float]]:
    """Start the contender afresh and yield each column with its figure."""
    contender = CONTENDERS[name]
    with _temporary_folder() as folder:
        site = Site(port=free_port(), identity_provider=identity_provider, folder=folder)
        try:
            yield from _measured(contender, site, seconds)
        except BenchmarkError as error:
            raise BenchmarkError(f"{name}: {error}") from error


def _measured(contender: Contender, site: Site, seconds: int) -> Iterator[tuple[str, float]]:
    ready = Request(url=site.url + contender.ready, status=contender.ready_status)
    environment = contender.environment(site)
    with running(contender.command(site), ready=ready, environment=environment, folder=site.folder) as server:
        yield READY, server.ready_after
        yield MEMORY_AT_START, resident_megabytes(server.pid)
        base = site.url + contender.prefix
        requests = valid_requests(base, site.identity_provider, registers=contender.registers)
        # V8 needs seconds of load to have compiled what is hot: nobody is measured cold.
        for valid_request in requests.values():
            drive(valid_request, concurrency=16, seconds=seconds)
        for column, load in LOADS.items():
            if request := requests.get(load.request):
                yield column, cost(load, request, server.pid, site.identity_provider, seconds)
        yield MEMORY_AFTER_LOAD, resident_megabytes(server.pid)


def cost(load: Load, request: Request, pid: int, identity_provider: str, seconds: int) -> float:
    """CPU microseconds of the process `pid` for each answer, after a warm-up of half the time.

    Raises:
        BenchmarkError: the identity provider saw fewer exchanges than there were answers.
    """
    counter = Request(url=f"{identity_provider}/exchanges", status=200)
    drive(request, concurrency=load.concurrency, seconds=max(1, seconds // 2))
    before = int(ask(counter))
    measured = measure(request, pid, concurrency=load.concurrency, seconds=seconds)
    exchanged = int(ask(counter)) - before
    if load.exchanges and exchanged < measured.answered:
        raise BenchmarkError(f"{request.url}: {measured.answered} answers from {exchanged} exchanges")
    return measured.cpu_microseconds


def medians(samples: Samples) -> table.Rows:
    return {name: {column: median(values) for column, values in row.items()} for name, row in samples.items()}


def report(samples: Samples, *, rounds: int, seconds: int, about: Mapping[str, str]) -> str:
    rows = medians(samples)
    how = (
        "CPU microseconds of the server process (user + system, 1 worker) per answered request, concurrency "
        f"16 where no other is given; median of {rounds} rounds of {seconds} s. {history.machine()}."
    )
    parts = [how, table.figures(rows, COLUMNS)]
    parts += [table.ratios(rows, COLUMNS, baseline=name) for name in BASELINES if name in rows and len(rows) > 1]
    parts.append("\n".join(f"- {name}: {text}" for name, text in about.items()))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="of each load, after a warm-up (4)")
    parser.add_argument("--rounds", type=int, default=3, help="fresh starts of each contender (3)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--record", action="store_true", help="append the ratios to the history")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    options = parser.parse_args()
    console = Console(stderr=True)
    try:
        about = {name: CONTENDERS[name].install() for name in options.contenders}
        samples = benchmark(about, rounds=options.rounds, seconds=options.seconds, console=console)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    if options.json:
        options.json.write_text(json.dumps(samples, indent=2))
    print(report(samples, rounds=options.rounds, seconds=options.seconds, about=about))
    if options.record:
        history.append("cpu", table.multiples(medians(samples), LOADS, BASELINES, of=["seed-oauth"]))


if __name__ == "__main__":
    main()
