"""Four workers, one scrape: with real processes that are killed, hang and are scraped all the while."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest
from workers_start import CPU, MEMORY, started

from tests.cli.test_cli import PATIENCE, Server, free_port, serving
from tests.harness import CALLBACK, Samples, samples_of
from tests.integration.login import refresh_from
from tests.integration.real_parts import identity_provider, idp_settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXCHANGES = int(os.environ.get("SEED_TEST_EXCHANGES", "4000"))
"""How many exchanges the kill test makes; the published figure is for 20,000."""


@asynccontextmanager
async def four_workers(folder: Path) -> AsyncIterator[tuple[Server, str]]:
    """`serve --workers 4` before an identity provider that takes any token; the server and that one's URL."""
    idp_port = free_port()
    idp = subprocess.Popen(  # noqa: S603 - a program of this repository
        [sys.executable, "-m", "uvicorn", "stand_in_idp:app", "--port", str(idp_port), "--log-level", "warning",
         "--no-access-log"],
        cwd=ROOT / "tests/bench",
    )  # fmt: skip
    idp_url = f"http://127.0.0.1:{idp_port}"
    environment = {
        "SEED_OAUTH_WORKERS": "4",
        # In this flow one refresh token is good for thousands of exchanges, where they are not limited.
        "SEED_OAUTH_FLOW": "relay",
        "SEED_OAUTH_RATE_LIMIT_TOKEN": "",
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{idp_url}/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": f"{idp_url}/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
        "SEED_OAUTH_IDP_CLIENT_SECRET": "secret",
        "SEED_OAUTH_LOG_LEVEL": "error",
    }
    try:
        async with serving(folder, environment) as server:
            await until_up(server, 4)
            yield server, idp_url
            await server.stop()
            assert server.process.returncode == 0
    finally:
        idp.terminate()
        idp.wait()


async def scrape(server: Server) -> Samples:
    response = await server.http.get(server.metrics)
    assert response.status_code == 200
    return samples_of(response.text)


def total(samples: Samples, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (sample, have), value in samples.items() if sample == name and wanted <= have)


async def until_up(server: Server, workers: int) -> None:
    with anyio.fail_after(PATIENCE):
        while total(await scrape(server), "seed_oauth_worker_up") != workers:
            await anyio.sleep(0.1)


def fork_server_of(server: Server) -> int:
    """The process id of the fork server, which is the only child of the supervisor."""
    (child,) = children_of(server.process.pid)
    return child


def workers_of(server: Server) -> list[int]:
    """The process ids of the workers."""
    return children_of(fork_server_of(server))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def register(server: Server) -> str:
    registration = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    response = await server.http.post(f"{server.url}/oauth/register", json=registration)
    return str(response.json()["client_id"])


class Driver:
    """Clients that refresh; it knows what was answered and what was cut off."""

    def __init__(self, server: Server, client_id: str) -> None:
        self._url = f"{server.url}/oauth/token"
        self._form = {"grant_type": "refresh_token", "refresh_token": "rt", "client_id": client_id}
        self.answered: Counter[int] = Counter()
        self.cut_off = 0

    async def exchange(self, http: aiohttp.ClientSession) -> None:
        try:
            async with http.post(self._url, data=self._form) as response:
                await response.read()
                self.answered[response.status] += 1
        except aiohttp.ClientError:
            self.cut_off += 1

    async def run(self, exchanges: int, at_once: int = 32) -> None:
        remaining = iter(range(exchanges))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as http:

            async def one_after_another() -> None:
                for _ in remaining:
                    await self.exchange(http)

            await asyncio.gather(*(one_after_another() for _ in range(at_once)))


async def test_with_two_workers_killed_midway_the_scraped_sum_is_what_was_answered(tmp_path: Path) -> None:
    async with four_workers(tmp_path) as (server, idp_url):
        driver = Driver(server, await register(server))
        driving = asyncio.create_task(driver.run(EXCHANGES))
        for victim, share in ((0, 0.25), (1, 0.6)):
            while sum(driver.answered.values()) < EXCHANGES * share:
                await asyncio.sleep(0.01)
            os.kill(workers_of(server)[victim], signal.SIGKILL)
        await driving
        samples = await scrape(server)
        asked = int((await server.http.get(f"{idp_url}/exchanges")).text)

        counted = total(samples, "oauth_token_exchanges_total")
        answered = driver.answered[200]
        print(f"answered {answered}, cut off {driver.cut_off}, counted {counted:g}, asked of the IdP {asked}")  # noqa: T201
        assert answered + driver.cut_off == EXCHANGES
        assert driver.answered.total() == answered, driver.answered
        # What was answered is counted, and beyond it nothing but requests that the kill cut off.
        assert answered <= counted <= answered + driver.cut_off
        assert counted <= asked
        assert counted == total(samples, "oauth_token_exchange_duration_seconds_count")
        assert total(samples, "seed_oauth_worker_restarts_total") == 2
        await until_up(server, 4)


async def test_a_login_goes_on_in_whatever_worker_its_requests_reach(tmp_path: Path) -> None:
    port = free_port()
    environment = {**idp_settings(f"http://127.0.0.1:{port}"), "SEED_OAUTH_WORKERS": "4"}
    async with identity_provider(tmp_path, port), serving(tmp_path, environment) as server:
        await until_up(server, 4)
        # A connection stays with one worker.
        server.http.headers["Connection"] = "close"
        for _ in range(8):
            form = await refresh_from(server.http, server.url)
            refreshed = [await server.http.post(f"{server.url}/oauth/token", data=form) for _ in range(2)]
            assert [response.status_code for response in refreshed] == [200, 200]
            assert refreshed[0].json() == refreshed[1].json()
        samples = await scrape(server)
        for name in (
            "oauth_consent_decisions_total",
            "oauth_callbacks_total",
            "oauth_authorization_wait_seconds_count",
        ):
            assert total(samples, name) == 8
        assert total(samples, "oauth_token_exchanges_total", grant_type="refresh_token") == 8


async def test_twenty_scrapers_at_once_never_see_a_counter_fall_or_a_sample_twice(tmp_path: Path) -> None:
    async with four_workers(tmp_path) as (server, _):
        driver = Driver(server, await register(server))
        finished = asyncio.Event()
        scrapes = 0

        async def keep_scraping(http: aiohttp.ClientSession) -> None:
            nonlocal scrapes
            before: Samples = {}
            while not finished.is_set():
                async with http.get(server.metrics) as response:
                    assert response.status == 200
                    after = samples_of(await response.text())
                for key, value in before.items():
                    if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
                        assert after[key] >= value
                before = after
                scrapes += 1

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=20)) as http:
            scraping = [asyncio.create_task(keep_scraping(http)) for _ in range(20)]
            await driver.run(800)
            os.kill(workers_of(server)[2], signal.SIGKILL)
            await driver.run(200)
            finished.set()
            await asyncio.gather(*scraping)
        assert scrapes > 40
        assert total(await scrape(server), "oauth_token_exchanges_total") >= driver.answered[200] > 900


async def test_a_worker_that_hangs_is_reported_and_does_not_hold_up_a_scrape(tmp_path: Path) -> None:
    async with four_workers(tmp_path) as (server, _):
        hanging = workers_of(server)[3]
        os.kill(hanging, signal.SIGSTOP)
        await until_up(server, 3)
        # It hangs until it is told to go on, so a scrape that is answered has not waited for it.
        samples = await scrape(server)
        assert sorted(value for (name, _), value in samples.items() if name == "seed_oauth_worker_up") == [0, 1, 1, 1]
        os.kill(hanging, signal.SIGCONT)
        await until_up(server, 4)


async def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    async with serving(tmp_path, {"SEED_OAUTH_WORKERS": "2"}) as server:
        await until_up(server, 2)
        workers = workers_of(server)
        server.process.kill()
        await server.process.communicate()
        with anyio.fail_after(PATIENCE):
            while any(Path(f"/proc/{worker}").exists() for worker in workers):
                await anyio.sleep(0.05)


def test_four_workers_take_twice_the_memory_of_one_process_and_the_cpu_of_its_start() -> None:
    """They are forked: each of them by itself would take as much as one process does."""
    took = {}
    for workers in (1, 4):
        with started(workers, "https://idp.example") as (_, _, took[workers]):
            pass
    assert took[4][MEMORY] < 2.4 * took[1][MEMORY], took
    assert took[4][CPU] < 1.5 * took[1][CPU], took
