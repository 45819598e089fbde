"""What forward authentication costs: CPU of `/oauth/verify` beside an empty route of Starlette, in turns, in one run.

    python tests/bench/verify_cost.py

Both are sent the same header fields over HTTP on loopback: those of nginx, with an access token of the door's own. The
empty route runs on uvicorn at its fastest, without a log; the door runs as `seed-oauth serve`, which logs and counts
each request. Needs wrk.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import time

from load import BenchmarkError, Request, drive, measure
from servers import Server, free_port, running, uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as Received
from starlette.responses import Response
from starlette.routing import Route

from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import Sealer

SECRET_KEY = "a-key-for-the-bench-of-random-characters"
CONNECTIONS = (16, 128)


async def empty(_: Received) -> Response:
    return Response()


app = Starlette(routes=[Route("/empty", empty)])


def fields(issuer: str) -> dict[str, str]:
    """The header fields of a question about a request with a good token."""
    token = AccessToken(
        client_id="https://app.example/client.json",
        resource=f"{issuer}/mcp",
        scope="files:read files:write",
        expires_at=int(time()) + 3600,
        subject="alice",
        idp_access_token="the token of the identity provider",
        grant_id="grant",
        issued_at=time(),
    ).sealed(Sealer([SECRET_KEY], issuer), time())
    scheme, _, host = issuer.partition("://")
    return {
        "Authorization": f"Bearer {token}",
        "X-Original-URI": "/mcp",
        "X-Original-Method": "POST",
        "X-Forwarded-Host": host,
        "X-Forwarded-Proto": scheme,
        "X-Forwarded-For": "203.0.113.1",
        "Accept": "application/json, text/event-stream",
        "Mcp-Protocol-Version": "2026-07-28",
    }


@contextmanager
def contenders() -> Iterator[dict[str, tuple[Request, Server]]]:
    """The requests by name, each with the server that answers it."""
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as name:
        door_folder, folder = Path(name) / "door", Path(name) / "starlette"
        door_folder.mkdir()
        folder.mkdir()
        door_port, port = free_port(), free_port()
        issuer = f"http://127.0.0.1:{door_port}"
        environment = {
            "SEED_OAUTH_ISSUER": issuer,
            "SEED_OAUTH_SECRET_KEYS": SECRET_KEY,
            "SEED_OAUTH_ACCESS_TOKENS": "own",
            "SEED_OAUTH_TRUSTED_PROXIES": "127.0.0.1",
            "SEED_OAUTH_METRICS_PORT": str(free_port()),
            "SEED_OAUTH_STORE_URL": f"sqlite:///{door_folder}/clients.db",
        }
        verify = Request(url=f"{issuer}/oauth/verify", status=200, fields=fields(issuer))
        nothing = Request(url=f"http://127.0.0.1:{port}/empty", status=200, fields=verify.fields)
        serve = [str(Path(sys.executable).with_name("seed-oauth")), "serve", "--port", str(door_port)]
        with (
            running(serve, ready=verify, environment=environment, folder=door_folder) as door,
            running(uvicorn("verify_cost:app", port), ready=nothing, environment={}, folder=folder) as starlette,
        ):
            yield {"verify": (verify, door), "empty": (nothing, starlette)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turns (5)")
    parser.add_argument("--seconds", type=int, default=5, help="of load in each (5)")
    arguments = parser.parse_args()
    try:
        with contenders() as requests:
            for request, _ in requests.values():
                drive(request, concurrency=16, seconds=2)
            for connections in CONNECTIONS:
                costs: dict[str, list[float]] = {name: [] for name in requests}
                for _ in range(arguments.rounds):
                    for name, (request, server) in requests.items():
                        cost = measure(request, server.pid, concurrency=connections, seconds=arguments.seconds)
                        costs[name].append(cost.cpu_microseconds)
                verify, nothing = median(costs["verify"]), median(costs["empty"])
                print(
                    f"@{connections}: /oauth/verify {verify:.0f} us, an empty route {nothing:.0f} us: "
                    f"{verify / nothing:.2f} x"
                )
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
