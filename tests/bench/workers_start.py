"""What more workers take: memory and the CPU of their start, with one process and with four workers.

    python tests/bench/workers_start.py

Memory is the sum of the PSS of the supervisor, the fork server and the workers: a page that they share counts once.
"Ready" is the first answer, of whichever worker; CPU is that of all processes until every worker is up.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import history
import table
from contenders import CONTENDERS, Site
from load import Request, cpu_seconds, drive, pss_megabytes
from login import valid_requests
from servers import Server, free_port, running
from workers import await_all, medians, named

WORKERS = (1, 4)
CONNECTIONS = 64
READY = "ready after (s)"
CPU = "CPU until ready (s)"
MEMORY = "PSS (MB)"
WARM_MEMORY = "PSS after requests (MB)"
COLUMNS = (READY, CPU, MEMORY, WARM_MEMORY)
WARM_SECONDS = 3


@contextmanager
def started(workers: int, identity_provider: str) -> Iterator[tuple[Server, str, dict[str, float]]]:
    """A front door with so many workers, its URL, and what it took until all of them were up."""
    contender = CONTENDERS["seed-oauth"]
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as folder:
        site = Site(port=free_port(), identity_provider=identity_provider, folder=Path(folder))
        environment = {**contender.environment(site), "SEED_OAUTH_WORKERS": str(workers)}
        ready = Request(url=site.url + contender.ready, status=contender.ready_status)
        with running(contender.command(site), ready=ready, environment=environment, folder=site.folder) as server:
            await_all(workers, environment["SEED_OAUTH_METRICS_PORT"])
            took = {READY: server.ready_after, CPU: cpu_seconds(server.pid), MEMORY: pss_megabytes(server.pid)}
            yield server, site.url, took


def measured(workers: int, identity_provider: str) -> Mapping[str, float]:
    """Every figure of a front door with so many workers."""
    with started(workers, identity_provider) as (server, url, took):
        request = valid_requests(f"{url}/oauth", identity_provider, registers=True)["authorize"]
        drive(request, concurrency=CONNECTIONS, seconds=WARM_SECONDS)
        return {**took, WARM_MEMORY: pss_megabytes(server.pid)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="fresh starts of each number of workers (3)")
    parser.add_argument("--record", action="store_true", help="append the ratios to the history")
    options = parser.parse_args()
    rows = medians(WORKERS, options.rounds, measured)
    print(table.figures(rows, COLUMNS), end="\n\n")
    print(table.ratios(rows, COLUMNS, baseline=named(1)))
    if options.record:
        history.append("workers_start", table.multiples(rows, (CPU, MEMORY, WARM_MEMORY), [named(1)], of=[named(4)]))


if __name__ == "__main__":
    main()
