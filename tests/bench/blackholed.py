"""How long others wait for an answer while a crowd waits for an identity provider that never answers.

    python tests/bench/blackholed.py

A door with one worker, and a crowd at its token endpoint. The system drops what wants to connect to the identity
provider's port, because its listener's backlog is full. The target is 100 ms.
"""

import argparse
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlencode, urlsplit

from load import BenchmarkError, Request, ask
from login import CODE_VERIFIER, REDIRECT_URI
from recording_cost import environment
from servers import POLL_SECONDS, START_SECONDS, free_port, running

TARGET_MS = 100


@contextmanager
def blackhole() -> Iterator[int]:
    """A port that swallows every connection."""
    with ExitStack() as stack:
        listener, first, second = (stack.enter_context(socket.socket()) for _ in range(3))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def connecting(port: int) -> int:
    """How many connections to a port of this machine have been asked for, and not been answered."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)  # TCP_SYN_SENT


def token_request(client_id: str, code: str) -> bytes:
    form = {
        "grant_type": "authorization_code", "code": code, "code_verifier": CODE_VERIFIER,
        "client_id": client_id, "redirect_uri": REDIRECT_URI,
    }  # fmt: skip
    body = urlencode(form)
    head = f"POST /oauth/token HTTP/1.1\r\nHost: door\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode()


@contextmanager
def crowd(url: str, client_id: str, idp_port: int, size: int) -> Iterator[None]:
    """So many clients that have sent a token request and wait for the answer."""
    address = urlsplit(url)
    before = connecting(idp_port)
    with ExitStack() as stack:
        for number in range(size):
            client = stack.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
            client.sendall(token_request(client_id, f"code-{number}"))
        deadline = time.monotonic() + START_SECONDS
        while connecting(idp_port) - before != size:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"only {connecting(idp_port) - before} of {size} wait")
            time.sleep(POLL_SECONDS)
        yield
        if connecting(idp_port) - before != size:
            raise BenchmarkError("the crowd did not wait until the end")


def milliseconds(request: Request) -> float:
    started = time.perf_counter()
    ask(request)
    return (time.perf_counter() - started) * 1000


def measure(size: int, rounds: int) -> None:
    """Print how long each request takes while nobody waits, and while the crowd does."""
    port, metrics_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    asked = {
        "metadata": Request(url=f"{url}/.well-known/oauth-authorization-server", status=200),
        "health": Request(url=f"{url}/healthz", status=200),
        "scrape": Request(url=f"http://127.0.0.1:{metrics_port}/metrics", status=200),
    }
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as name, blackhole() as idp_port:
        settings = {
            **environment(url, f"http://127.0.0.1:{idp_port}", Path(name)),
            "SEED_OAUTH_IDP_CONNECT_TIMEOUT": "60", "SEED_OAUTH_IDP_TIMEOUT": "120",
            "SEED_OAUTH_METRICS_PORT": str(metrics_port),
        }  # fmt: skip
        command = [str(Path(sys.executable).with_name("seed-oauth")), "serve", "--port", str(port)]
        with running(command, ready=asked["health"], environment=settings, folder=Path(name)):
            registration = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
            registered = ask(
                Request(url=f"{url}/oauth/register", status=201, method="POST", body=json.dumps(registration),
                        content_type="application/json")
            )  # fmt: skip
            report("nobody waits", asked, rounds)
            with crowd(url, json.loads(registered)["client_id"], idp_port, size):
                report(f"{size} wait", asked, rounds)


def report(when: str, asked: dict[str, Request], rounds: int) -> None:
    for name, request in asked.items():
        times = [milliseconds(request) for _ in range(rounds)]
        verdict = "" if max(times) < TARGET_MS else f"  (over the target of {TARGET_MS} ms)"
        print(f"{when:>12}  {name:<8}  median {median(times):5.1f} ms  slowest {max(times):5.1f} ms{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crowd", type=int, default=300, help="clients that wait (300)")
    parser.add_argument("--rounds", type=int, default=200, help="of each request (200)")
    arguments = parser.parse_args()
    try:
        measure(arguments.crowd, arguments.rounds)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
