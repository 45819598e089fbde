"""Instructions of the server process for each request, counted by valgrind: a busy machine does not move them.

    python tests/bench/instructions.py

Each server runs as it always does, on loopback before the same stand-in identity provider, but under valgrind. One
client asks, one request after the other. So many requests go to each path that what was noted of them is recorded
exactly once. The kernel's work is not counted, and nobody waits in line: CPU and Python decide what the figures are.
Their ratios to the floor (bare Starlette and aiohttp), counted in the same way, are what is compared.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import history
import table
from access_tokens import own_token
from broker import SECRET_KEYS, Logins
from callgrind import Callgrind
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request
from protected_resource import tool_call
from run import identity_provider
from servers import free_port, running

REQUESTS = 256  # as many as `Telemetry` notes before it records
WARM_UP = 32
START_SECONDS = 180.0  # under valgrind, on a machine that has other things to do
SERVERS = ("floor", "relay", "broker", "proxy")
"""The bare one, the front door in both flows, and the front door before an MCP server."""
PATHS = ("register", "authorize", "callback", "token", "refresh", "proxied")
PROXY = {"SEED_OAUTH_ACCESS_TOKENS": "own"}
COMPARABLE = {"register": "authorize", "callback": "token"}
"""What of the floor a path is compared with, where the floor has none of that name: one that asks as much."""

Figures = Mapping[str, Mapping[str, float]]
"""Instructions for each request, by server and path."""


@dataclass
class Counting:
    """Has the paths of one server asked and counted, those that are to be."""

    callgrind: Callgrind
    paths: Collection[str]
    figures: dict[str, float] = field(default_factory=dict)

    async def count(self, path: str, work: Callable[[int], Awaitable[str]]) -> list[str]:
        """What the path answered, request by request."""
        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append(await work(number))

        if path in self.paths:
            await self.callgrind.count(ask, range(WARM_UP))
            counted = await self.callgrind.count(ask, range(WARM_UP, WARM_UP + REQUESTS))
            self.figures[path] = counted / REQUESTS
        return answers


async def counted(server: str, base: str, callgrind: Callgrind, paths: Collection[str]) -> dict[str, float]:
    """The instructions of each path of one server that is among `paths`."""
    counting = Counting(callgrind, paths)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        on = Logins(base, "" if server == "floor" else "/oauth", session)
        client_id = "bench"
        if server != "floor":
            client_id = await on.register()

        async def exchange(at_identity_provider: str) -> str:
            code = "a-code-as-long-as-the-usual-ones-are"
            if server == "broker":
                code = await on.come_back(at_identity_provider)  # right before, because it is good for a minute
            return await on.exchange(client_id, code)

        # From now on consent is remembered, and the broker flow reads revocations, whether anybody asks or not.
        await exchange(await on.authorize(client_id))
        await callgrind.measure_idle()
        if server == "relay":  # it is the same in both flows
            await counting.count("register", lambda _: on.register())
        locations = await counting.count("authorize", lambda _: on.authorize(client_id))
        if not locations:
            return counting.figures
        if server == "broker":
            await counting.count("callback", lambda number: on.come_back(locations[number]))
        refresh_tokens = await counting.count("token", lambda number: exchange(locations[number]))
        if "token" in counting.figures:
            # What telemetry records of either falls into one request of many: it must not be the other's.
            counting.figures["token"] -= counting.figures.get("callback", 0)
        if refresh_tokens:
            await counting.count("refresh", lambda number: on.refresh(client_id, refresh_tokens[number]))
    return counting.figures


async def counted_proxied(base: str, callgrind: Callgrind) -> float:
    """The instructions of a small `tools/call` that goes on to the MCP server."""
    call = tool_call(f"{base}/mcp", own_token(base, SECRET_KEYS))
    async with aiohttp.ClientSession() as session:
        # From now on the front door reads revocations, whether anybody asks or not.
        await answer_to(call, session)
        await callgrind.measure_idle()
        counting = Counting(callgrind, ["proxied"])
        await counting.count("proxied", lambda _: answer_to(call, session))
    return counting.figures["proxied"]


async def answer_to(request: Request, session: aiohttp.ClientSession) -> str:
    """What is answered, if it is what is expected."""
    async with session.post(request.url, data=request.body, headers=request.headers) as response:
        if response.status != request.status:
            raise BenchmarkError(f"{request.url}: {response.status}")
        return await response.text()


@contextmanager
def served(server: str, identity_provider: str, environment: Mapping[str, str]) -> Iterator[tuple[str, Callgrind]]:
    """One of the servers under valgrind: its URL and what counts."""
    contender = CONTENDERS["floor" if server == "floor" else "seed-oauth"]
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as name:
        folder = Path(name)
        site = Site(port=free_port(), identity_provider=identity_provider, folder=folder)
        # A script's first line would start an interpreter that valgrind does not follow.
        program = [sys.executable, *contender.command(site)] if server != "floor" else contender.command(site)
        settings = {
            "PYTHONHASHSEED": "0",
            "SEED_OAUTH_FLOW": "relay" if server == "relay" else "broker",
            "SEED_OAUTH_SECRET_KEYS": SECRET_KEYS,
            "SEED_OAUTH_IDP_TIMEOUT": "60",
        }
        ready = Request(url=site.url + contender.ready, status=contender.ready_status)
        with running(
            Callgrind.command(program, folder),
            ready=ready,
            environment={**contender.environment(site), **settings, **environment},
            folder=folder,
            start_seconds=START_SECONDS,
        ) as process:
            yield site.url, Callgrind(process.pid, folder)


def measure(
    servers: Collection[str] = SERVERS, paths: Collection[str] = PATHS, environment: Mapping[str, str] | None = None
) -> Figures:
    """Count the paths of the servers; `environment` is added to that of each.

    Raises:
        BenchmarkError: a figure would mean nothing.
    """
    figures: dict[str, dict[str, float]] = {}
    with identity_provider() as url:
        # The stand-in answers like an MCP server, too.
        mcp_server = f"{url}/mcp"
        behind = {"floor": {"BENCH_MCP_SERVER": mcp_server}, "proxy": {**PROXY, "SEED_OAUTH_MCP_SERVER": mcp_server}}
        for server in servers:
            with served(server, url, {**behind.get(server, {}), **(environment or {})}) as (base, callgrind):
                figures[server] = {}
                if server != "proxy":
                    figures[server] |= asyncio.run(counted(server, base, callgrind, paths))
                if server in behind and "proxied" in paths:
                    figures[server]["proxied"] = asyncio.run(counted_proxied(base, callgrind))
    return figures


def ratios(figures: Figures) -> dict[str, float]:
    """What is compared from one time to the next: every path as a multiple of the floor, and whole logins."""
    floor = figures["floor"]
    found = {
        f"{server} {path} / floor": figure / floor[COMPARABLE.get(path, path)]
        for server, row in figures.items()
        if server != "floor"
        for path, figure in row.items()
    }
    relay, broker = figures.get("relay", {}), figures.get("broker", {})
    if {"register", "authorize", "token"} <= relay.keys() and {"authorize", "callback", "token"} <= broker.keys():
        login = relay["register"] + broker["authorize"] + broker["callback"] + broker["token"]
        found["broker login / relay"] = login / (relay["register"] + relay["authorize"] + relay["token"])
    return {name: round(ratio, 4) for name, ratio in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="append the ratios to the history")
    options = parser.parse_args()
    try:
        figures = measure()
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    print(table.figures(figures, PATHS), end="\n\n")
    found = ratios(figures)
    print(table.figures({"ratio": found}, tuple(found)))
    if options.record:
        history.append("instructions", found)


if __name__ == "__main__":
    main()
