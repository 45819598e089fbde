"""A flood of registrations on real sockets, while people log in: do limits hold, and does anybody notice?

    python tests/bench/flood.py

One door is started for each flood, before the stand-in identity provider: one flood comes from a single address, one
from many. The door trusts 127.0.0.1 as its reverse proxy, so that X-Forwarded-For gives each request the address that
it is to come from. Beside the flood, people with addresses of their own agree, log in and refresh, some with a client
that has been used before, some with one that registers now. In the end every registration must have been counted, and
every login of a client that was known before must have succeeded: else it ends with 1. (A flood from many addresses can
fill the store's quota; then nobody new can register until it is over.)
"""

import argparse
import asyncio
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from time import perf_counter

import aiohttp
from broker import SECRET_KEYS, Logins
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request, resident_megabytes
from login import REDIRECT_URI
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from run import identity_provider
from servers import free_port, running

FLOODED_FROM = IPv4Address("52.0.0.0")
PEOPLE_FROM = IPv4Address("20.0.0.0")
METADATA = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none", "client_name": "flood"}
PATIENCE = aiohttp.ClientTimeout(total=60)
ACCEPTED, LIMITED = "201", "429"
GOOD = "good"


@dataclass(frozen=True)
class Door:
    url: str
    metrics: str
    store: Path
    pid: int


@dataclass
class Report:
    """What came of one flood."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """How often each status was answered, or a request failed."""
    known: Counter[str] = field(default_factory=Counter)
    """How logins of known clients ended: `good`, or why they failed."""
    new: Counter[str] = field(default_factory=Counter)
    """The same of clients that register first."""
    seconds: float = 0.0
    megabytes: tuple[float, float] = (0.0, 0.0)
    """Resident memory before and after."""
    counted: float = 0.0
    """The registrations that the door has counted, those of people included."""
    kept: int | None = None
    """The clients that are in the store in the end, those of people included; None where it is no file."""

    @property
    def is_good(self) -> bool:
        """Whether no known client failed, and everything was counted."""
        # One client has registered before.
        registered = self.sent + self.new.total() + 1
        return self.known.total() == self.known[GOOD] > 0 and self.counted == registered


@contextmanager
def served(idp: str, settings: Mapping[str, str]) -> Iterator[Door]:
    """A door of its own, in the broker flow."""
    contender = CONTENDERS["seed-oauth"]
    with tempfile.TemporaryDirectory(prefix="seed-oauth-flood-") as folder:
        site = Site(port=free_port(), identity_provider=idp, folder=Path(folder))
        # With the limits as they are by default.
        unlimited = contender.environment(site)
        environment = {
            **{name: value for name, value in unlimited.items() if "RATE_LIMIT" not in name},
            "SEED_OAUTH_FLOW": "broker",
            "SEED_OAUTH_ACCESS_TOKENS": "own",
            "SEED_OAUTH_SECRET_KEYS": SECRET_KEYS,
            "SEED_OAUTH_TRUSTED_PROXIES": "127.0.0.1",
            "SEED_OAUTH_LOG_LEVEL": "error",
            **settings,
        }
        ready = Request(url=site.url + contender.ready, status=200)
        with running(contender.command(site), ready=ready, environment=environment, folder=site.folder) as server:
            metrics = f"http://127.0.0.1:{environment['SEED_OAUTH_METRICS_PORT']}/metrics"
            yield Door(site.url, metrics, site.folder / "clients.db", server.pid)


async def register(session: aiohttp.ClientSession, url: str, address: IPv4Address) -> str:
    """Register once from an address; how it ended."""
    try:
        headers = {"X-Forwarded-For": str(address)}
        async with session.post(f"{url}/oauth/register", json=METADATA, headers=headers) as response:
            await response.read()
            return str(response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


async def log_in(url: str, address: IPv4Address, client_id: str | None = None) -> str:
    """Everything that one person and their client do, which registers if it is new; its client_id.

    Raises:
        BenchmarkError: a step was not answered as it should be.
    """
    jar, headers = aiohttp.CookieJar(unsafe=True), {"X-Forwarded-For": str(address)}
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers, timeout=PATIENCE) as session:
        on = Logins(url, "/oauth", session)
        client_id = client_id or await on.register()
        refresh_token = await on.exchange(client_id, await on.come_back(await on.authorize(client_id)))
        await on.refresh(client_id, refresh_token)
        return client_id


async def flood(door: Door, progress: Progress, options: argparse.Namespace, addresses: int) -> Report:
    """Flood the door from so many addresses, and have people log in until it is over."""
    report, numbers, is_over = Report(), count(), asyncio.Event()
    flooding = progress.add_task(f"flood from {addresses:,}", total=options.registrations)
    logging_in = progress.add_task("logins", total=None)

    async def send(session: aiohttp.ClientSession) -> None:
        while (number := next(numbers)) < options.registrations:
            report.sent += 1
            report.answers[await register(session, door.url, FLOODED_FROM + number % addresses)] += 1
            progress.advance(flooding)

    async def keep_logging_in(first: int) -> None:
        for number in count(first, options.people):
            ends, client_id = (report.new, None) if number % 2 else (report.known, known)
            try:
                await log_in(door.url, PEOPLE_FROM + number, client_id)
                ends[GOOD] += 1
            except (BenchmarkError, aiohttp.ClientError, TimeoutError) as error:
                ends[f"{type(error).__name__}: {error}"] += 1
            progress.advance(logging_in)
            if is_over.is_set():
                return

    known = await log_in(door.url, PEOPLE_FROM - 1)
    before, started = resident_megabytes(door.pid), perf_counter()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=PATIENCE) as session,
        asyncio.TaskGroup() as people,
    ):
        for first in range(options.people):
            people.create_task(keep_logging_in(first))
        await asyncio.gather(*(send(session) for _ in range(options.concurrency)))
        is_over.set()
    report.seconds = perf_counter() - started
    report.megabytes = before, resident_megabytes(door.pid)
    report.counted = await registrations_counted(door)
    report.kept = clients_in(door.store)
    return report


async def registrations_counted(door: Door) -> float:
    """All registrations that the door has counted, however they ended."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as session, session.get(door.metrics) as response:
        exposition = await response.text()
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "oauth_dcr_registrations_total")


def clients_in(store: Path) -> int | None:
    """How many clients are in the file; None when it is not used."""
    if not store.exists():
        return None
    with closing(sqlite3.connect(store)) as connection:
        clients: int = connection.execute("SELECT count(*) FROM clients").fetchone()[0]
        return clients


def shown(reports: Mapping[str, Report]) -> Table:
    """What came of each flood, in a column."""
    table = Table("", *(f"flood from {name}" for name in reports))
    figures = {name: figures_of(report) for name, report in reports.items()}
    for row in next(iter(figures.values())):
        table.add_row(row, *(column[row] for column in figures.values()))
    return table


def figures_of(report: Report) -> dict[str, str]:
    """Each figure under its name."""
    other = {status: times for status, times in report.answers.items() if status not in {ACCEPTED, LIMITED}}
    return {
        "registrations sent": f"{report.sent:,}",
        "accepted": f"{report.answers[ACCEPTED]:,}",
        "limited": f"{report.answers[LIMITED]:,}",
        "answered otherwise": ", ".join(f"{status}: {times:,}" for status, times in other.items()) or "none",
        "clients in the store": "unknown" if report.kept is None else f"{report.kept:,}",
        "logins of known clients": share(report.known),
        "logins of new clients": share(report.new),
        "seconds": f"{report.seconds:.0f}",
        "resident MB": f"{report.megabytes[0]:.0f} before, {report.megabytes[1]:.0f} after",
    }


def share(ends: Counter[str]) -> str:
    """How many logins succeeded."""
    return f"{ends[GOOD]:,} of {ends.total():,}, {ends[GOOD] / ends.total():.2%}" if ends else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registrations", type=int, default=100_000, help="of each flood (100000)")
    parser.add_argument("--addresses", type=int, nargs="+", default=[1, 20_000], help="of each flood (1 20000)")
    parser.add_argument("--concurrency", type=int, default=32, help="registrations under way at once (32)")
    parser.add_argument("--people", type=int, default=4, help="who log in at once (4)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the door, such as STORE_URL=…"
    )
    options = parser.parse_args()
    settings = {f"SEED_OAUTH_{name}": value for name, _, value in (each.partition("=") for each in options.set)}
    console, reports = Console(), {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        with Progress(*columns, console=console) as progress, identity_provider() as idp:
            for addresses in options.addresses:
                with served(idp, settings) as door:
                    reports[f"{addresses:,}"] = asyncio.run(flood(door, progress, options, addresses))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    console.print(shown(reports))
    for name, report in reports.items():
        for problem, times in (report.known + report.new).most_common(5):
            if problem != GOOD:
                console.print(f"flood from {name}: {times:,} logins failed: {problem}", markup=False, soft_wrap=True)
        if not report.is_good:
            console.print(f"flood from {name}: {report.counted:,.0f} registrations were counted", markup=False)
    sys.exit(0 if all(report.is_good for report in reports.values()) else 1)


if __name__ == "__main__":
    main()
