"""CPU of whole logins and refreshes in the broker flow: beside FastMCP's OAuthProxy, and beside the relay flow.

    python tests/bench/broker.py

Each server runs as one process on loopback in front of the same stand-in identity provider. One driver plays the
clients and their browsers over keep-alive connections, 16 at a time, and the cost is the server's user and system
time from /proc. A login is: register, authorize (consent was remembered before, or is switched off), callback,
token. `broker` passes the identity provider's JWTs on as `relay` does, `broker-own` seals tokens of its own.

Machines are noisy: each round measures every server, the table has the medians, and only ratios within one run mean
something.
"""

import argparse
import asyncio
import itertools
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from statistics import median
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import fastmcp_peer
import history
import table
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request, cpu_seconds, resident_megabytes
from login import CODE_VERIFIER, REDIRECT_URI, authorization_parameters
from run import identity_provider
from servers import free_port, running

CONCURRENCY = 16
SECRET_KEYS = "a-key-for-the-benchmark-alone-0123456789"


class Logins:
    """The clients and browsers of one server."""

    def __init__(self, base: str, prefix: str, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._prefix = base + prefix
        self._session = session
        # As MCP clients do; FastMCP's resource is where its MCP server is, too.
        self._resource = {"resource": f"{base}/mcp"}

    async def register(self) -> str:
        metadata = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none", "client_name": "bench"}
        async with self._session.post(f"{self._prefix}/register", json=metadata) as response:
            _expect(response, 201)
            client_id: str = (await response.json())["client_id"]
            return client_id

    async def authorize(self, client_id: str) -> str:
        """Ask for authorization; where the browser is sent. A client's first login has its consent remembered."""
        query = {**authorization_parameters(client_id), "scope": "openid profile", **self._resource}
        async with self._session.get(f"{self._prefix}/authorize", params=query, allow_redirects=False) as response:
            if response.status == 200:
                return await self._consent(await response.text())
            _expect(response, 302)
            location = response.headers["Location"]
            if "error=" in location:
                raise BenchmarkError(f"{self._prefix}/authorize: {location}")
            return location

    async def _consent(self, page: str) -> str:
        asked = unescape(_found(r'name="request" value="([^"]*)"', page))
        form = {"request": asked, "decision": "approve", "remember": "on"}
        async with self._session.post(f"{self._prefix}/consent", data=form) as response:
            _expect(response, 200)
            return unescape(_found(r'content="0;url=([^"]*)"', await response.text()))

    async def come_back(self, at_identity_provider: str) -> str:
        """Return from the identity provider, which gives everybody a code; the code that the client gets."""
        state = dict(parse_qsl(urlsplit(at_identity_provider).query))["state"]
        query = {"code": "a-code-as-long-as-the-usual-ones-are", "state": state}
        url = f"{self._base}/oauth/callback"
        async with self._session.get(url, params=query, allow_redirects=False) as response:
            _expect(response, 302)
            return dict(parse_qsl(urlsplit(response.headers["Location"]).query))["code"]

    async def exchange(self, client_id: str, code: str) -> str:
        """Exchange a code; the refresh token."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": CODE_VERIFIER}
        return await self._token({**form, "client_id": client_id, "redirect_uri": REDIRECT_URI, **self._resource})

    async def refresh(self, client_id: str, refresh_token: str) -> str:
        """Refresh; the next refresh token."""
        return await self._token(
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "client_id": client_id,
                **self._resource,
            }
        )

    async def _token(self, form: Mapping[str, str]) -> str:
        async with self._session.post(f"{self._prefix}/token", data=form) as response:
            _expect(response, 200)
            refresh_token: str = (await response.json())["refresh_token"]
            return refresh_token


def _expect(response: aiohttp.ClientResponse, status: int) -> None:
    if response.status != status:
        raise BenchmarkError(f"{response.method} {response.url}: {response.status}")


def _found(pattern: str, page: str) -> str:
    found = re.search(pattern, page)
    if found is None:
        raise BenchmarkError(f"no {pattern} in the page")
    return found[1]


async def cost_of(pid: int, work: Callable[[int], Awaitable[object]], times: int) -> float:
    """CPU microseconds of the process for each piece of work."""
    numbers = itertools.count()

    async def one_after_another() -> None:
        while (number := next(numbers)) < times:
            await work(number)

    before = cpu_seconds(pid)
    await asyncio.gather(*(one_after_another() for _ in range(CONCURRENCY)))
    return (cpu_seconds(pid) - before) * 1e6 / times


async def measured(server: str, base: str, pid: int, logins: int) -> dict[str, float]:
    """Every figure of one server."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        on = Logins(base, "" if server == "fastmcp" else "/oauth", session)
        known = await on.register()
        at_identity_provider = await on.authorize(known)
        if server != "relay":
            await on.come_back(at_identity_provider)  # with us consent is remembered from now on
        refresh_tokens: list[str] = []

        async def login(_: int) -> None:
            client_id = await on.register()
            # FastMCP asks nobody for consent here; with us the client that was consented to goes on.
            client_id = client_id if server == "fastmcp" else known
            code = await on.come_back(await on.authorize(client_id)) if server != "relay" else "any"
            if server == "relay":
                await on.authorize(client_id)
            refresh_tokens.append(await on.exchange(client_id, code))
            clients.append(client_id)

        clients: list[str] = []
        await cost_of(pid, login, logins // 4)  # warm
        refresh_tokens.clear()
        clients.clear()
        figures = {"login": await cost_of(pid, login, logins)}
        codes = [
            await on.come_back(await on.authorize(client_id)) if server != "relay" else "any" for client_id in clients
        ]
        figures["token"] = await cost_of(pid, lambda number: on.exchange(clients[number], codes[number]), logins)
        figures["refresh"] = await cost_of(
            pid, lambda number: on.refresh(clients[number], refresh_tokens[number]), logins
        )
        return figures


async def grown_by(base: str, pid: int, begun: int) -> tuple[float, float]:
    """Resident memory (10^6 bytes) before and after so many logins were begun and never finished."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        on = Logins(base, "/oauth", session)
        client_id = await on.register()
        await on.authorize(client_id)  # by itself, because the browser gets its cookie
        await cost_of(pid, lambda _: on.authorize(client_id), begun // 10)
        before = resident_megabytes(pid)
        await cost_of(pid, lambda _: on.authorize(client_id), begun)
        return before, resident_megabytes(pid)


@dataclass(frozen=True)
class Server:
    base: str
    pid: int


@contextmanager
def served(name: str, identity_provider: str) -> Iterator[Server]:
    """One of the servers, started afresh."""
    contender = CONTENDERS["seed-oauth"]
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as folder:
        site = Site(port=free_port(), identity_provider=identity_provider, folder=Path(folder))
        environment = {
            **contender.environment(site),
            "SEED_OAUTH_SECRET_KEYS": SECRET_KEYS,
            "SEED_OAUTH_FLOW": name.removesuffix("-own"),
            "SEED_OAUTH_ACCESS_TOKENS": "own" if name.endswith("-own") else "auto",
        }
        command, ready = contender.command(site), contender.ready
        if name == "fastmcp":
            command = fastmcp_peer.oauth_proxy(site.port, identity_provider)
            environment, ready = {}, "/.well-known/oauth-authorization-server"
        first = Request(url=site.url + ready, status=200)
        with running(command, ready=first, environment=environment, folder=site.folder) as process:
            yield Server(site.url, process.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=400, help="of each kind in each round (400)")
    parser.add_argument("--rounds", type=int, default=3, help="fresh starts of each server (3)")
    parser.add_argument("--begun", type=int, default=100_000, help="logins that are begun and never finished (100000)")
    parser.add_argument("--servers", nargs="+", default=["fastmcp", "relay", "broker", "broker-own"])
    parser.add_argument("--record", action="store_true", help="append the ratios to the history")
    options = parser.parse_args()
    samples: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in options.servers}
    try:
        with identity_provider() as url:
            for _ in range(options.rounds):
                for name in options.servers:
                    with served(name, url) as server:
                        for column, figure in asyncio.run(
                            measured(name, server.base, server.pid, options.logins)
                        ).items():
                            samples[name][column].append(figure)
            if options.begun:
                with served("broker", url) as server:
                    before, after = asyncio.run(grown_by(server.base, server.pid, options.begun))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    rows = {name: {column: median(figures) for column, figures in row.items()} for name, row in samples.items()}
    columns = ("login", "token", "refresh")
    print(table.figures(rows, columns))
    for baseline in ("fastmcp", "relay"):
        if baseline in rows:
            print(f"\n{table.ratios(rows, columns, baseline=baseline)}")
    if options.record:
        history.append("broker", table.multiples(rows, columns, ["fastmcp", "relay"], of=["broker", "broker-own"]))
    if options.begun:
        print(f"\n{options.begun} logins begun and never finished: RSS {before:.1f} MB before, {after:.1f} MB after")


if __name__ == "__main__":
    main()
