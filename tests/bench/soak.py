"""A front door under mixed load for an hour: does its memory grow?

    python tests/bench/soak.py

Visitors with a browser each register, are asked for consent, come back, exchange their code and refresh; they make
mistakes, and read the metadata; somebody scrapes. It ends after 2,000,000 requests or an hour, whichever comes first.

Resident memory is sampled all the while. What was sampled after the warm-up is cut into blocks of the same length,
because one sample tells little that the sample before did not tell. A straight line is laid through the blocks' means
by least squares. Memory grows if its slope is larger than chance would have it (one-sided t test at 1 %) and matters:
more than a megabyte for a million requests. Then, or if file descriptors or series have grown, the exit status is 1.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import fmean, linear_regression

import aiohttp
import table
from broker import SECRET_KEYS, Logins
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request, resident_megabytes
from login import CODE_VERIFIER
from rich.console import Console
from rich.progress import Progress
from run import identity_provider
from servers import free_port, running

from seed_oauth.clients.cached import CAPACITY

VISITORS = 16
BLOCKS = 20
T = 2.552
"""Student's t for 18 degrees of freedom at 1 %, one-sided."""
MATERIAL = 1.0
"""Megabytes for a million requests."""
WARM_UP = 0.3
"""The part of the run in which caches are filled; it is not looked at."""


@dataclass(frozen=True)
class Sample:
    requests: int
    megabytes: float
    file_descriptors: int
    series: int


@dataclass
class Soak:
    """A run: what was asked until now, and how the process was."""

    base: str
    metrics: str
    pid: int
    most: int
    until: float
    answered: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.answered.total()

    def goes_on(self) -> bool:
        return self.requests < self.most and time.monotonic() < self.until

    async def visit(self) -> None:
        """Be one visitor after the other."""
        while self.goes_on():
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                await self._login(Logins(self.base, "/oauth", session))
                await self._read_metadata(session)
                await self._make_mistakes(session)

    async def _login(self, on: Logins) -> None:
        client_id = await on.register()
        await on.authorize(client_id)
        self.answered.update(register=1, authorize=1, consent=1)
        code = await on.come_back(await on.authorize(client_id))
        refresh_token = await on.exchange(client_id, code)
        await on.refresh(client_id, await on.refresh(client_id, refresh_token))
        self.answered.update(authorize=1, callback=1, token=1, refresh=2)

    async def _read_metadata(self, session: aiohttp.ClientSession) -> None:
        for name in ("oauth-authorization-server", "oauth-protected-resource/mcp", "nothing"):
            async with session.get(f"{self.base}/.well-known/{name}") as response:
                await response.read()
            self.answered["metadata"] += 1

    async def _make_mistakes(self, session: aiohttp.ClientSession) -> None:
        code = {"grant_type": "authorization_code", "code": "none", "code_verifier": CODE_VERIFIER}
        mistakes = (
            session.get(f"{self.base}/oauth/authorize", params={"client_id": f"nobody {time.monotonic_ns()}"}),
            session.post(f"{self.base}/oauth/token", data={**code, "client_id": "nobody"}),
            session.post(f"{self.base}/oauth/register", json={"redirect_uris": ["http://app.example/callback"]}),
            session.get(f"{self.base}/oauth/callback", params={"state": "none", "code": "none"}),
        )
        for mistake in mistakes:
            async with mistake as response:
                await response.read()
            if response.status not in {400, 401, 404}:
                raise BenchmarkError(f"{response.url}: {response.status}")
            self.answered["error"] += 1

    async def watch(self, interval: float, progress: Progress) -> None:
        """Scrape and take a sample every so many seconds."""
        requests = progress.add_task("requests", total=self.most)
        seconds = progress.add_task("seconds", total=self.until - time.monotonic())
        async with aiohttp.ClientSession() as session:
            while self.goes_on():
                await asyncio.sleep(interval)
                async with session.get(self.metrics) as response:
                    scrape = await response.text()
                self.answered["scrape"] += 1
                series = sum(1 for line in scrape.splitlines() if not line.startswith("#"))
                descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
                sample = Sample(self.requests, resident_megabytes(self.pid), descriptors, series)
                self.samples.append(sample)
                progress.update(requests, completed=sample.requests)
                progress.advance(seconds, interval)
                progress.console.print(
                    f"{sample.requests:9,} requests  RSS {sample.megabytes:6.1f} MB  "
                    f"{descriptors} file descriptors  {series} series"
                )


@dataclass(frozen=True)
class Slope:
    """Megabytes for a million requests, and the standard error of that."""

    value: float
    error: float

    @property
    def grows(self) -> bool:
        return self.value > max(T * self.error, MATERIAL)

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Slope":
        """The slope through the means of `BLOCKS` blocks of samples."""
        cuts = [round(number * len(samples) / BLOCKS) for number in range(BLOCKS + 1)]
        blocks = [samples[start:end] for start, end in pairwise(cuts)]
        if not all(blocks):
            raise BenchmarkError(f"{len(samples)} samples after the warm-up are not enough: at least {BLOCKS}")
        x = [fmean(sample.requests for sample in block) / 1e6 for block in blocks]
        y = [fmean(sample.megabytes for sample in block) for block in blocks]
        slope, intercept = linear_regression(x, y)
        residuals = sum((value - intercept - slope * at) ** 2 for at, value in zip(x, y, strict=True))
        spread = sum((at - fmean(x)) ** 2 for at in x)
        return cls(slope, sqrt(residuals / (BLOCKS - 2) / spread))


def report(soak: Soak) -> bool:
    """Say how it went; whether nothing has grown.

    Raises:
        BenchmarkError: the run was too short to tell.
    """
    begun = soak.requests * WARM_UP
    samples = [sample for sample in soak.samples if sample.requests >= begun]
    slope = Slope.of(samples)
    first, last = samples[0], samples[-1]
    print(table.figures({"answered": dict(soak.answered)}, tuple(soak.answered)), end="\n\n")
    print(
        f"{soak.requests:,} requests, {len(samples)} samples after the warm-up.\n"
        f"RSS {first.megabytes:.1f} MB, then {last.megabytes:.1f} MB: slope {slope.value:+.2f} ± {slope.error:.2f} MB "
        f"for a million requests, it {'grows' if slope.grows else 'does not grow'}.\n"
        f"File descriptors {first.file_descriptors}, then {last.file_descriptors}; "
        f"series {first.series}, then {last.series}."
    )
    if soak.answered["register"] * WARM_UP < CAPACITY:
        raise BenchmarkError("too short to tell: clients are remembered, and the warm-up did not fill their memory")
    # Connections of visitors come and go; what leaks, leaks with each request.
    leaks = last.file_descriptors > first.file_descriptors + 2 * VISITORS
    return not (slope.grows or leaks or last.series > first.series)


async def run(soak: Soak, interval: float, console: Console) -> None:
    with Progress(console=console) as progress:
        async with asyncio.TaskGroup() as group:
            group.create_task(soak.watch(interval, progress))
            for _ in range(VISITORS):
                group.create_task(soak.visit())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000_000, help="at most (2000000)")
    parser.add_argument("--seconds", type=int, default=3600, help="at most (3600)")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two samples (5)")
    options = parser.parse_args()
    console = Console()
    contender = CONTENDERS["seed-oauth"]
    try:
        with identity_provider() as idp, tempfile.TemporaryDirectory(prefix="seed-oauth-soak-") as folder:
            site = Site(port=free_port(), identity_provider=idp, folder=Path(folder))
            environment = {
                **contender.environment(site),
                "SEED_OAUTH_FLOW": "broker",
                "SEED_OAUTH_SECRET_KEYS": SECRET_KEYS,
                "SEED_OAUTH_LOG_LEVEL": "error",
                # Every visitor registers, and gets a token: such clients are not put out.
                "SEED_OAUTH_CLIENT_QUOTA": "10000000",
            }
            metrics = f"http://127.0.0.1:{environment['SEED_OAUTH_METRICS_PORT']}/metrics"
            ready = Request(url=site.url + contender.ready, status=contender.ready_status)
            with running(contender.command(site), ready=ready, environment=environment, folder=site.folder) as server:
                until = time.monotonic() + options.seconds
                soak = Soak(site.url, metrics, server.pid, options.requests, until)
                asyncio.run(run(soak, options.interval, console))
            held = report(soak)
    except* BenchmarkError as errors:
        sys.exit(f"error: {errors.exceptions[0]}")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
