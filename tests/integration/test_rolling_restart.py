"""Three replicas are replaced one after the other while people log in: nobody notices."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import pytest

from tests.cli.test_cli import PATIENCE, free_port
from tests.harness import json_of, refresh_request
from tests.integration.login import code_from
from tests.integration.real_parts import identity_provider, idp_settings
from tests.integration.replicas import LoadBalancer, Replica
from tests.redis_servers import redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PEOPLE = 4
"""Who log in at the same time, again and again."""
LOGINS_BETWEEN = 5
"""Logins that are finished before the next replica is stopped."""


@dataclass
class People:
    """They log in, and their clients refresh, until they are told to stop."""

    door: str
    logins: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    is_over: bool = False

    async def keep_logging_in(self) -> None:
        while not self.is_over:
            try:
                await self._log_in()
                self.logins += 1
            except (httpx.TransportError, AssertionError, KeyError) as failure:
                self.failures[repr(failure)] += 1

    async def _log_in(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            form = await code_from(http, self.door)
            exchanged = await http.post(f"{self.door}/oauth/token", data=form)
            assert exchanged.status_code == 200, exchanged.text
            refresh = refresh_request(client_id=form["client_id"], refresh_token=json_of(exchanged)["refresh_token"])
            refreshed = await http.post(f"{self.door}/oauth/token", data=refresh)
            assert refreshed.status_code == 200, refreshed.text

    async def have_logged_in(self, times: int) -> None:
        wanted = self.logins + times
        while self.logins < wanted:
            await anyio.sleep(0.05)


@asynccontextmanager
async def three_replicas(folder: Path, store_url: str, **settings: str) -> AsyncIterator[LoadBalancer]:
    idp_port = free_port()
    replicas: list[Replica] = []
    balancer = LoadBalancer(replicas)
    environment = {
        **idp_settings(f"http://127.0.0.1:{idp_port}"),
        "SEED_OAUTH_ISSUER": balancer.url,
        "SEED_OAUTH_SECRET_KEYS": "the-same-key-for-all-of-them-of-random-characters",
        "SEED_OAUTH_STORE_URL": store_url,
        "SEED_OAUTH_LOG_LEVEL": "warning",
        **settings,
    }
    replicas += [Replica(folder / str(number), environment) for number in range(3)]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(identity_provider(folder, idp_port))
        for replica in replicas:
            stack.push_async_callback(replica.close)
            await replica.start()
        await stack.enter_async_context(balancer.running())
        for replica in replicas:
            await balancer.until_ready(replica)
        yield balancer


async def restart_one_after_the_other(balancer: LoadBalancer) -> People:
    """Each replica is stopped and started again under load."""
    people = People(balancer.url)
    logging_in = [asyncio.create_task(people.keep_logging_in()) for _ in range(PEOPLE)]
    try:
        for replica in balancer.replicas:
            await people.have_logged_in(LOGINS_BETWEEN)
            assert await replica.stop() == 0
            await people.have_logged_in(LOGINS_BETWEEN)
            await replica.start()
            await balancer.until_ready(replica)
        await people.have_logged_in(LOGINS_BETWEEN)
    finally:
        people.is_over = True
        await asyncio.gather(*logging_in)
    return people


@pytest.mark.parametrize("store", ["one SQLite file", pytest.param("Redis", marks=pytest.mark.real_parts("redis"))])
async def test_a_rolling_restart_under_load_loses_no_login(tmp_path: Path, store: str) -> None:
    with anyio.fail_after(4 * PATIENCE):
        async with AsyncExitStack() as stack:
            store_url = f"sqlite:///{tmp_path}/shared.db"
            if store == "Redis":
                store_url = stack.enter_context(redis_server(tmp_path / "redis")).url
            balancer = await stack.enter_async_context(three_replicas(tmp_path, store_url))
            people = await restart_one_after_the_other(balancer)
    assert not people.failures
    assert people.logins >= 7 * LOGINS_BETWEEN
