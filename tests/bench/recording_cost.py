"""What recording costs a request: one server with its recorder on and off in turns, in one run.

    python tests/bench/recording_cost.py

Everything else is on: HTTP on loopback, the httpx instrumentation, logging. Needs wrk.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from load import BenchmarkError, Request, ask, drive
from login import valid_requests
from servers import free_port, running, uvicorn

REQUESTS = {"authorize": "authorization", "token": "exchange"}


def environment(url: str, identity_provider: str, folder: Path) -> Mapping[str, str]:
    """A front door before that identity provider."""
    return {
        "SEED_OAUTH_ISSUER": url,
        "SEED_OAUTH_FLOW": "relay",
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{identity_provider}/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": f"{identity_provider}/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "bench",
        "SEED_OAUTH_IDP_CLIENT_SECRET": "bench-secret",
        "SEED_OAUTH_STORE_URL": f"sqlite:///{folder}/clients.db",
        # Counted as always, and never reached: the load is one client that sends the same code again and again.
        "SEED_OAUTH_RATE_LIMIT_TOKEN": "999999999/minute",
    }


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The front door and its identity provider: their URLs."""
    with tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as name:
        idp_folder, folder = Path(name) / "idp", Path(name) / "door"
        idp_port, port = free_port(), free_port()
        idp, url = f"http://127.0.0.1:{idp_port}", f"http://127.0.0.1:{port}"
        for each in (idp_folder, folder):
            each.mkdir()
        with (
            running(
                uvicorn("stand_in_idp:app", idp_port),
                ready=Request(url=f"{idp}/exchanges", status=200),
                environment={},
                folder=idp_folder,
            ),
            running(
                uvicorn("taking_turns:app", port),
                ready=Request(url=f"{url}/readyz", status=200),
                environment=environment(url, idp, folder),
                folder=folder,
            ),
        ):
            yield url, idp


def turns_of(request: Request, url: str, seconds: int) -> list[tuple[float, float]]:
    """CPU microseconds with the recorder on and off, of pairs of turns under load."""
    turns = Request(url=f"{url}/turns", status=200)
    drive(request, concurrency=16, seconds=3)
    ask(turns)
    drive(request, concurrency=16, seconds=seconds)
    # In the first and the last turn the load began and ended.
    told: list[tuple[float, float]] = json.loads(ask(turns))[1:-1]
    return told


def error_of_median(values: Sequence[float]) -> float:
    """The standard error of their median, told by the quartiles because turns that were disturbed are far off."""
    lower, _, upper = quantiles(values, n=4)
    error: float = 0.93 * (upper - lower) / len(values) ** 0.5
    return error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of load for each endpoint (60)")
    seconds = parser.parse_args().seconds
    try:
        with servers() as (url, identity_provider):
            requests = valid_requests(f"{url}/oauth", identity_provider, registers=True)
            for endpoint, name in REQUESTS.items():
                turns = turns_of(requests[endpoint], url, seconds)
                on, off = (median(costs) for costs in zip(*turns, strict=True))
                costs = [with_it - without for with_it, without in turns]
                print(
                    f"{name}: {on:.0f} us with the recorder, {off:.0f} without; recording takes "
                    f"{median(costs):.1f} us (± {error_of_median(costs):.1f}), {median(costs) / on:.1%}"
                )
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
