"""CPU of one scrape: after 1,000 and after 1,000,000 recorded requests, and of a server with four workers.

    python tests/bench/scrape_cost.py

Closed label sets should make the first two cost the same: what is exported does not grow with what has happened.
"""

import itertools
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from load import Request, ask, cpu_seconds
from prometheus_client import generate_latest
from servers import free_port, running

from seed_oauth.outcomes import AuthorizationOutcome, GrantType, RegistrationOutcome
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    DCR_REGISTRATIONS,
    TOKEN_EXCHANGES,
    IdpOutcome,
)
from seed_oauth.telemetry.pipeline import Pipeline

FEW, MANY = 1_000, 1_000_000
SCRAPES = 101
SECONDS = (0.005, 0.05, 0.3, 0.7, 1.5, 3.0, 7.0)
"""Durations across the buckets of both histograms."""


def traffic(pipeline: Pipeline) -> Callable[[int], None]:
    """A function that records so many more requests: the endpoints in turn, every label set of theirs."""
    telemetry = pipeline.telemetry
    authorizations = itertools.cycle(AuthorizationOutcome)
    registrations = itertools.cycle(RegistrationOutcome)
    exchanges = itertools.cycle(itertools.product(GrantType, IdpOutcome, SECONDS))
    endpoints = itertools.cycle(("authorize", "token", "register"))

    def record(requests: int) -> None:
        for endpoint in itertools.islice(endpoints, requests):
            if endpoint == "authorize":
                telemetry.record(next(authorizations))
            elif endpoint == "register":
                telemetry.record(next(registrations))
            else:
                telemetry.record_exchange(*next(exchanges))

    return record


def counted(pipeline: Pipeline) -> int:
    """The requests that a scrape shows."""
    names = {series.name for series in (AUTHORIZATION_REQUESTS, TOKEN_EXCHANGES, DCR_REGISTRATIONS)}
    families = pipeline.registry.collect()
    return int(sum(sample.value for family in families for sample in family.samples if sample.name in names))


def scrape_milliseconds(pipeline: Pipeline) -> float:
    """Median CPU of collecting and rendering everything once."""
    readings = []
    for _ in range(SCRAPES):
        before = time.process_time_ns()
        generate_latest(pipeline.registry)
        readings.append(time.process_time_ns() - before)
    return median(readings) / 1e6


def with_workers(workers: int) -> float:
    """Milliseconds of CPU of the supervisor and its workers for one scrape, as it is asked for over HTTP."""
    port, metrics_port = free_port(), free_port()
    scrape = Request(url=f"http://127.0.0.1:{metrics_port}/metrics", status=200)
    environment = {
        "SEED_OAUTH_PORT": str(port),
        "SEED_OAUTH_METRICS_PORT": str(metrics_port),
        "SEED_OAUTH_WORKERS": str(workers),
    }
    ready = Request(url=f"http://127.0.0.1:{port}/healthz", status=200)
    command = [str(Path(sys.executable).with_name("seed-oauth")), "serve"]
    with (
        tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as folder,
        running(command, ready=ready, environment=environment, folder=Path(folder)) as server,
    ):
        while len(re.findall(r"^seed_oauth_worker_up\{.*\} 1\.0$", ask(scrape), re.MULTILINE)) < workers:
            time.sleep(0.1)
        before = cpu_seconds(server.pid)
        for _ in range(SCRAPES):
            ask(scrape)
        return (cpu_seconds(server.pid) - before) / SCRAPES * 1e3


def main() -> None:
    pipeline = Pipeline()
    record = traffic(pipeline)
    recorded, costs = 0, []
    for requests in (FEW, MANY):
        record(requests - recorded)
        recorded = requests
        if counted(pipeline) != requests:
            raise SystemExit(f"error: the scrape shows {counted(pipeline)} requests of {requests}")
        costs.append(scrape_milliseconds(pipeline))
        print(f"one scrape after {requests:>9,} requests: {costs[-1]:.2f} ms CPU")
    print(f"ratio: {costs[1] / costs[0]:.2f}")
    pipeline.shutdown()
    print(f"one scrape of a server with 4 workers: {with_workers(4):.2f} ms CPU")


if __name__ == "__main__":
    main()
