"""What a second worker brings: throughput, and CPU of each process, with one worker and with two.

    python tests/bench/workers.py

The load is authorization requests by wrk: they ask nobody else. wrk needs CPU, too, so on a machine of two cores two
workers can never be seen at twice the throughput of one. So two figures are given for each number of workers. What
was achieved here, with the CPU that wrk took of it. And what the processes can do when each has a core of its own:
the busiest of them then sets the pace, which is the CPU it took for all requests, also those it did not answer
itself. That takes in how evenly the kernel shares the connections out, and what the supervisor does for each request.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import history
import table
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request, ask, cpu_seconds_of_each, drive
from login import valid_requests
from run import identity_provider
from servers import POLL_SECONDS, START_SECONDS, free_port, running

WORKERS = (1, 2)
CONNECTIONS = 64
ACHIEVED = "achieved (1/s)"
POSSIBLE = "possible (1/s)"
BUSIEST = "busiest process (µs)"
ALL = "all processes (µs)"
SUPERVISOR = "of these the supervisor (µs)"
SHARE = "share of the busiest worker"
WRK = "wrk (µs)"
COLUMNS = (ACHIEVED, POSSIBLE, BUSIEST, ALL, SUPERVISOR, SHARE, WRK)


def measured(workers: int, identity_provider: str, seconds: int) -> Mapping[str, float]:
    """Every figure of a front door with so many workers."""
    contender = CONTENDERS["seed-oauth"]
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as folder:
        site = Site(port=free_port(), identity_provider=identity_provider, folder=Path(folder))
        environment = {**contender.environment(site), "SEED_OAUTH_WORKERS": str(workers)}
        ready = Request(url=site.url + contender.ready, status=contender.ready_status)
        with running(contender.command(site), ready=ready, environment=environment, folder=site.folder) as server:
            await_all(workers, environment["SEED_OAUTH_METRICS_PORT"])
            request = valid_requests(f"{site.url}/oauth", identity_provider, registers=True)["authorize"]
            drive(request, concurrency=CONNECTIONS, seconds=max(1, seconds // 2))
            return _under_load(request, server.pid, seconds)


def await_all(workers: int, metrics_port: str) -> None:
    """Wait until every worker is up: whoever is late gets none of the connections."""
    scrape = Request(url=f"http://127.0.0.1:{metrics_port}/metrics", status=200)
    deadline = time.monotonic() + START_SECONDS
    while _up(ask(scrape)) < workers:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"not all of {workers} workers are up after {START_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _up(scrape: str) -> int:
    return sum(line.startswith("seed_oauth_worker_up{") and line.endswith(" 1.0") for line in scrape.splitlines())


def _under_load(request: Request, pid: int, seconds: int) -> Mapping[str, float]:
    before, wrk_before = cpu_seconds_of_each(pid), _cpu_of_children()
    answered = drive(request, concurrency=CONNECTIONS, seconds=seconds)
    spent = {member: after - before.get(member, 0.0) for member, after in cpu_seconds_of_each(pid).items()}
    workers = [seconds for member, seconds in spent.items() if member != pid] or [spent[pid]]
    return {
        ACHIEVED: answered / seconds,
        POSSIBLE: answered / max(spent.values()),
        BUSIEST: max(spent.values()) / answered * 1e6,
        ALL: sum(spent.values()) / answered * 1e6,
        SUPERVISOR: (sum(spent.values()) - sum(workers)) / answered * 1e6,
        SHARE: max(workers) / sum(workers),
        WRK: (_cpu_of_children() - wrk_before) / answered * 1e6,
    }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def named(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def medians(
    numbers: Sequence[int], rounds: int, measured: Callable[[int, str], Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The medians of every figure, by number of workers, which `measured` gets with the URL of an identity provider."""
    samples: dict[int, dict[str, list[float]]] = {workers: defaultdict(list) for workers in numbers}
    try:
        with identity_provider() as url:
            for _ in range(rounds):
                for workers in numbers:
                    for column, figure in measured(workers, url).items():
                        samples[workers][column].append(figure)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    return {
        named(workers): {name: median(figures) for name, figures in row.items()} for workers, row in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="of load, after a warm-up (8)")
    parser.add_argument("--rounds", type=int, default=5, help="fresh starts of each number of workers (5)")
    parser.add_argument("--record", action="store_true", help="append the ratios to the history")
    options = parser.parse_args()
    rows = medians(WORKERS, options.rounds, lambda workers, url: measured(workers, url, options.seconds))
    print(table.figures(rows, COLUMNS), end="\n\n")
    found = table.multiples(rows, (ACHIEVED, POSSIBLE), [named(1)], of=[named(2)])
    print("\n".join(f"{name}: {ratio:.2f}" for name, ratio in found.items()))
    if options.record:
        history.append("workers", found)


if __name__ == "__main__":
    main()
