"""The identity provider dies, or the client does: what the client hears and what is counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import anyio
import httpx
import pytest

from seed_oauth.cli.demo.browser import Browser
from seed_oauth.cli.demo.fault_injection import Faults
from seed_oauth.cli.demo.identity_provider import DevelopmentIdentityProvider
from seed_oauth.server.listener import Listener, listen
from tests.cli.test_cli import Server, free_port, serving
from tests.harness import Samples, increases, json_of, query_of, samples_of
from tests.integration.login import back_from_idp, code_from, onward, refresh_from
from tests.integration.real_parts import IDP_CLIENT_ID, IDP_CLIENT_SECRET, eventually, identity_provider, idp_settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def scrape(server: Server) -> Samples:
    return samples_of((await server.http.get(server.metrics)).text)


async def exchanges(server: Server, grant_type: str) -> float:
    """How many exchanges there were of a grant, with either result."""
    samples = await scrape(server)
    return sum(
        value
        for (name, labels), value in samples.items()
        if name == "oauth_token_exchanges_total" and ("grant_type", grant_type) in labels
    )


async def test_a_killed_idp_is_503_and_one_failure_for_each_exchange_until_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    async with serving(tmp_path, idp_settings(f"http://127.0.0.1:{port}")) as server:
        token_endpoint = f"{server.url}/oauth/token"
        async with Browser() as browser:
            async with identity_provider(tmp_path, port) as idp:
                refresh = await refresh_from(server.http, server.url)
                returns = [await back_from_idp(browser, server.http, server.url) for _ in range(2)]
                before = await scrape(server)
                idp.kill()
                idp.wait()
            told = [query_of(onward(await browser.open(callback)))["error"] for callback in returns]

        assert told == ["temporarily_unavailable"] * 2
        response = await server.http.post(token_endpoint, data=refresh)
        assert response.status_code == 503
        assert json_of(response)["error"] == "temporarily_unavailable"  # never invalid_grant
        assert int(response.headers["retry-after"]) > 0
        assert increases(before, await scrape(server)) == {
            'oauth_callbacks_total{result="error"}': 2,
            'oauth_errors_total{cause="idp",endpoint="callback",reason="idp_unreachable"}': 2,
            'oauth_errors_total{cause="idp",endpoint="token",reason="idp_unreachable"}': 1,
            'oauth_token_exchange_duration_seconds_count{grant_type="authorization_code"}': 2,
            'oauth_token_exchange_duration_seconds_count{grant_type="refresh_token"}': 1,
            'oauth_token_exchanges_total{grant_type="authorization_code",result="failure"}': 2,
            'oauth_token_exchanges_total{grant_type="refresh_token",result="failure"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="token",outcome="connect_error"}': 3,
            'oauth_idp_requests_total{operation="token",outcome="connect_error"}': 3,
        }

        async with identity_provider(tmp_path, port):
            form = await code_from(server.http, server.url)
            assert (await server.http.post(token_endpoint, data=form)).status_code == 200


class Dawdle:
    """The time of an identity provider that waits to be told when a delay is over."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.over = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds:
            self.begun.set()
            await self.over.wait()


@asynccontextmanager
async def dawdling_idp(dawdle: Dawdle) -> AsyncIterator[tuple[DevelopmentIdentityProvider, str]]:
    """An identity provider on loopback, and its URL."""
    idp = DevelopmentIdentityProvider(IDP_CLIENT_ID, IDP_CLIENT_SECRET, sleep=dawdle.sleep)
    with listen("127.0.0.1", 0, "PORT") as listening:
        listener = Listener(idp.app, listening)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.run_until_stopped)
            yield idp, listener.url
            listener.should_exit = True


async def leave_during_exchange(
    http: httpx.AsyncClient, door: str, idp: DevelopmentIdentityProvider, dawdle: Dawdle
) -> None:
    """Send a token request, and close the connection while the identity provider takes its time."""
    form = await refresh_from(http, door)
    idp.faults = Faults(latency=1)
    body = urlencode(form).encode()
    head = f"POST /oauth/token HTTP/1.1\r\nHost: door\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    address = urlsplit(door)
    async with await anyio.connect_tcp(str(address.hostname), address.port or 0) as connection:
        await connection.send(head.encode() + body)
        await dawdle.begun.wait()


async def test_a_client_that_leaves_during_an_exchange_is_counted_once(tmp_path: Path) -> None:
    dawdle = Dawdle()
    async with dawdling_idp(dawdle) as (idp, idp_url), serving(tmp_path, idp_settings(idp_url)) as server:
        await leave_during_exchange(server.http, server.url, idp, dawdle)
        before = await scrape(server)
        assert await exchanges(server, "refresh_token") == 0
        dawdle.over.set()
        assert await eventually(lambda: exchanges(server, "refresh_token")) == 1
        once = {
            'oauth_token_exchange_duration_seconds_count{grant_type="refresh_token"}': 1,
            'oauth_token_exchanges_total{grant_type="refresh_token",result="success"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="token",outcome="ok"}': 1,
            'oauth_idp_requests_total{operation="token",outcome="ok"}': 1,
        }
        assert increases(before, await scrape(server)) == once

        # Nothing comes after it: the next refresh adds its own exchange alone.
        idp.faults = Faults()
        form = await refresh_from(server.http, server.url)
        before = await scrape(server)
        assert (await server.http.post(f"{server.url}/oauth/token", data=form)).status_code == 200
        assert increases(before, await scrape(server)) == once
