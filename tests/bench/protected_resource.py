"""CPU of the protected resource for each request, side by side with pinned peers, in one run.

    python tests/bench/protected_resource.py

A `tools/call` of 100 bytes goes through each proxy to the same MCP server, which answers 100 bytes; each question of
forward authentication gets an empty answer. `floor` is bare Starlette and aiohttp without any check. `oauth2-proxy` is
written in Go and checks a JWT, and so does `fastmcp`, which is FastMCP's own proxy. Every server runs as one process on
loopback and is loaded by wrk; the cost is its user and system time from /proc. All are there all the time and are
loaded in turns, so that a slow minute of the machine hits all of them: only ratios within one run mean something.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote, urlsplit

import fastmcp_peer as fastmcp
import history
import nginx
import oauth2_proxy
import table
from access_tokens import own_token
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request, ask, drive, measure
from servers import Server, free_port, many_files, running, uvicorn
from stand_in_idp import ISSUER

SECRET_KEY = "a-key-for-the-bench-of-random-characters"
CONNECTIONS = (16, 128)

PEERS = {"oauth2-proxy": oauth2_proxy.install, "nginx": nginx.install, "fastmcp": fastmcp.install}
"""What installs those that are not of this repository, and tells their versions."""

Samples = Mapping[str, Mapping[str, list[float]]]
"""CPU microseconds of a request in each round, by its name and `@` with the number of connections."""

BODY = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"write_file","arguments":{}}}'.ljust(100)
ACCEPT = {"Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2025-11-25"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, and the servers whose CPU it takes."""

    request: Request
    pids: tuple[int, ...]
    connections: Collection[int] = CONNECTIONS
    """Over how many it can be loaded."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where servers start, and what is behind all of them."""

    stack: ExitStack
    folder: Path
    identity_provider: str
    mcp_server: str

    def start(self, command: list[str], ready: Request, environment: Mapping[str, str] | None = None) -> Server:
        """A server that runs until the end."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return self.stack.enter_context(running(command, ready=ready, environment=environment or {}, folder=folder))

    def access_token(self, algorithm: str, audience: str) -> str:
        """A JWT of the identity provider."""
        query = f"algorithm={algorithm}&audience={quote(audience)}"
        return ask(Request(url=f"{self.identity_provider}/access_token?{query}", status=200))


def tool_call(url: str, token: str) -> Request:
    """A small `tools/call`."""
    fields = {**ACCEPT, "Authorization": f"Bearer {token}"}
    return Request(url=url, status=200, method="POST", body=BODY, content_type="application/json", fields=fields)


def question(url: str, door: str, token: str, status: int = 200) -> Request:
    """What nginx asks about such a request."""
    about = {
        "X-Original-URI": "/mcp",
        "X-Original-Method": "POST",
        "X-Forwarded-Host": urlsplit(door).netloc,
        "X-Forwarded-Proto": "http",
        "X-Forwarded-For": "203.0.113.1",
    }
    return Request(url=url, status=status, fields={**tool_call(url, token).fields, **about})


@contextmanager
def started(peers: Collection[str] = tuple(PEERS)) -> Iterator[dict[str, Asked]]:
    """Everything that can be asked, by name.

    Raises:
        BenchmarkError: something did not start, or does not answer as it should.
    """
    idp, mcp_server = _address(), _address()
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as folder, ExitStack() as stack:
        stack.enter_context(many_files())
        around = Surroundings(stack=stack, folder=Path(folder), identity_provider=idp, mcp_server=mcp_server)
        around.start(_stand_in("stand_in_idp:app", idp), Request(url=f"{idp}/exchanges", status=200))
        around.start(_stand_in("stand_in_mcp_server:app", mcp_server), Request(url=f"{mcp_server}/mcp", status=200))
        door = _address()
        token = own_token(door, SECRET_KEY)
        found = {**_door(around, door, token), **_floor(around, door, token)}
        if "oauth2-proxy" in peers:
            found |= _oauth2_proxy(around, door)
        if "fastmcp" in peers:
            found |= _fastmcp(around, door)
        if "nginx" in peers:
            found |= _nginx(around, door, token, found["proxied call"].pids)
        yield found


def _address() -> str:
    return f"http://127.0.0.1:{free_port()}"


def _stand_in(app: str, address: str) -> list[str]:
    return uvicorn(app, urlsplit(address).port or 0)


def _door(around: Surroundings, door: str, token: str) -> dict[str, Asked]:
    contender = CONTENDERS["seed-oauth"]
    folder = Path(tempfile.mkdtemp(dir=around.folder))
    site = Site(port=urlsplit(door).port or 0, identity_provider=around.identity_provider, folder=folder)
    environment = {
        **contender.environment(site),
        "SEED_OAUTH_FLOW": "broker",
        "SEED_OAUTH_ACCESS_TOKENS": "own",
        "SEED_OAUTH_SECRET_KEYS": SECRET_KEY,
        "SEED_OAUTH_MCP_SERVER": f"{around.mcp_server}/mcp",
        "SEED_OAUTH_IDP_ISSUER_CLAIM": ISSUER,
        "SEED_OAUTH_IDP_JWKS_URL": f"{around.identity_provider}/jwks",
    }
    url = f"{door}/mcp"
    server = around.start(contender.command(site), tool_call(url, token), environment)
    requests = {"proxied call": tool_call(url, token), "/oauth/verify": question(f"{door}/oauth/verify", door, token)}
    for algorithm in ("ES256", "RS256"):
        requests[f"proxied call with {algorithm}"] = tool_call(url, around.access_token(algorithm, url))
    return {name: Asked(request=request, pids=(server.pid,)) for name, request in requests.items()}


def _floor(around: Surroundings, door: str, token: str) -> dict[str, Asked]:
    floor = _address()
    environment = {
        "BENCH_IDENTITY_PROVIDER": around.identity_provider,
        "BENCH_MCP_SERVER": f"{around.mcp_server}/mcp",
    }
    requests = {"floor": tool_call(f"{floor}/mcp", token), "empty route": question(f"{floor}/empty", door, token)}
    server = around.start(_stand_in("floor:app", floor), requests["floor"], environment)
    return {name: Asked(request=request, pids=(server.pid,)) for name, request in requests.items()}


def _oauth2_proxy(around: Surroundings, door: str) -> dict[str, Asked]:
    audience = f"{door}/mcp"
    token = around.access_token("RS256", audience)
    found = {}
    for name, options in {"oauth2-proxy": [], "oauth2-proxy, no check": oauth2_proxy.WITHOUT_A_CHECK}.items():
        address = _address()
        command = oauth2_proxy.command(
            urlsplit(address).port or 0,
            mcp_server=around.mcp_server,
            identity_provider=around.identity_provider,
            issuer=ISSUER,
            audience=audience,
        )
        request = tool_call(f"{address}/mcp", token)
        pids = (around.start([*command, *options], request).pid,)
        found[name] = Asked(request=request, pids=pids)
        if not options:
            asks = question(f"{address}/oauth2/auth", door, token, status=202)
            found["/oauth2/auth"] = Asked(request=asks, pids=pids)
    return found


def _fastmcp(around: Surroundings, door: str) -> dict[str, Asked]:
    audience, address = f"{door}/mcp", _address()
    command = fastmcp.proxy(
        urlsplit(address).port or 0,
        mcp_server=f"{around.mcp_server}/mcp",
        jwks_uri=f"{around.identity_provider}/jwks",
        issuer=ISSUER,
        audience=audience,
    )
    request = tool_call(f"{address}/mcp", around.access_token("RS256", audience))
    # A call takes some 30 ms, so over more connections none would be answered in the seconds of a load.
    return {"fastmcp": Asked(request=request, pids=(around.start(command, request).pid,), connections=(16,))}


def _nginx(around: Surroundings, door: str, token: str, door_pids: tuple[int, ...]) -> dict[str, Asked]:
    address = _address()
    request = tool_call(f"{address}/mcp", token)
    folder = Path(tempfile.mkdtemp(dir=around.folder))
    door_address, mcp_server = urlsplit(door).netloc, urlsplit(around.mcp_server).netloc
    command = nginx.command(folder, urlsplit(address).port or 0, door=door_address, mcp_server=mcp_server)
    return {"nginx, cached": Asked(request=request, pids=(around.start(command, request).pid, *door_pids))}


def in_turns(
    asked: Mapping[str, Asked], *, rounds: int, seconds: int, connections: Collection[int] = CONNECTIONS
) -> Samples:
    """Load each over each number of connections, one after the other, so many times.

    Raises:
        BenchmarkError: an answer was not the one expected.
    """
    for each in asked.values():
        drive(each.request, concurrency=16, seconds=seconds)
    samples: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in asked}
    for _ in range(rounds):
        for number in connections:
            for name, each in asked.items():
                if number not in each.connections:
                    continue
                cost = measure(each.request, *each.pids, concurrency=number, seconds=seconds)
                samples[name][f"@{number}"].append(cost.cpu_microseconds)
    return samples


def medians(samples: Samples) -> table.Rows:
    return {name: {column: median(costs) for column, costs in row.items()} for name, row in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of each load (3)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns (3)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    try:
        about = [f"{name} {PEERS[name]()}" for name in options.peers]
        with started(options.peers) as asked:
            rows = medians(in_turns(asked, rounds=options.rounds, seconds=options.seconds))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    columns = tuple(f"@{connections}" for connections in CONNECTIONS)
    print(f"CPU microseconds per answered request; {', '.join([*about, history.machine()])}.\n")
    print(table.figures(rows, columns), end="\n\n")
    print(table.ratios(rows, columns, baseline="floor"))


if __name__ == "__main__":
    main()
