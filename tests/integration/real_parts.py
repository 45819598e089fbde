"""The real programs around the front door: how each is found, started on loopback and stopped."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, TypeVar

import anyio
import httpx

from tests.cli.test_cli import PATIENCE, free_port
from tests.real_parts import path_of

SCRAPE_INTERVAL = "500ms"

IDP_CLIENT_ID = "proxy"
IDP_CLIENT_SECRET = "secret of the proxy"
_IDENTITY_PROVIDER = f"""
import sys, uvicorn
from seed_oauth.cli.demo.identity_provider import DevelopmentIdentityProvider
idp = DevelopmentIdentityProvider({IDP_CLIENT_ID!r}, {IDP_CLIENT_SECRET!r})
uvicorn.run(idp.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""


Found = TypeVar("Found")


async def eventually(look: Callable[[], Awaitable[Found]]) -> Found:
    """What `look` sees in another process, as soon as it is something."""
    with anyio.fail_after(4 * PATIENCE):
        while not (found := await look()):
            await anyio.sleep(0.05)
    return found


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    async def query(self, expression: str, at: str | None = None) -> list[dict[str, Any]]:
        """The series that an instant query gives, at a Unix time or now."""
        moment = {} if at is None else {"time": at}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            response = await http.get(f"{self.url}/api/v1/query", params={"query": expression, **moment})
        body = response.json()
        assert body["status"] == "success", f"{expression}: {body}"
        series: list[dict[str, Any]] = body["data"]["result"]
        return series

    async def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """The exemplars of the last hour in the series that an expression selects."""
        now = time()
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            parameters = {"query": expression, "start": str(now - 3600), "end": str(now + 60)}
            response = await http.get(f"{self.url}/api/v1/query_exemplars", params=parameters)
        body = response.json()
        assert body["status"] == "success", f"{expression}: {body}"
        series: list[dict[str, Any]] = body["data"]
        return series

    async def scrape_after(self, moment: float) -> str:
        """Wait for a scrape that succeeded and began after a Unix time; its own Unix time."""
        scraped = await eventually(lambda: self.query(f"timestamp(up) > {moment} and up == 1"))
        at: str = scraped[0]["value"][1]
        return at


@asynccontextmanager
async def prometheus(
    folder: Path, target: str, instance: str | None, *, program: Path | None = None, options: Sequence[str] = ()
) -> AsyncIterator[Prometheus]:
    """A Prometheus with an empty database that scrapes `target` (host:port), once it is ready.

    Without an `instance` it leaves job and instance as the target has them, as for a Collector. By default it is the
    `program` on the PATH.
    """
    url = f"http://127.0.0.1:{free_port()}"
    # Outputs must not depend on the port that happened to be free.
    scraped = {"targets": [target], "labels": {"instance": instance} if instance else {}}
    config = folder / "prometheus.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": SCRAPE_INTERVAL},
                "scrape_configs": [
                    {"job_name": "seed-oauth", "honor_labels": instance is None, "static_configs": [scraped]}
                ],
            }
        )
    )
    command = [
        str(program or path_of("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
        *options,
    ]
    log = folder / "prometheus.log"
    with running(command, log) as process:
        await ready(f"{url}/-/ready", process, log)
        yield Prometheus(url)


@asynccontextmanager
async def identity_provider(folder: Path, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The demo's identity provider as a process of its own that can be killed."""
    log = folder / "identity_provider.log"
    with running([sys.executable, "-c", _IDENTITY_PROVIDER, str(port)], log) as process:
        await ready(f"http://127.0.0.1:{port}/authorize", process, log)
        yield process


def idp_settings(url: str) -> dict[str, str]:
    """The environment of a front door before the identity provider at `url`."""
    return {
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{url}/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": f"{url}/token",
        "SEED_OAUTH_IDP_REVOCATION_URL": f"{url}/revoke",
        "SEED_OAUTH_IDP_CLIENT_ID": IDP_CLIENT_ID,
        "SEED_OAUTH_IDP_CLIENT_SECRET": IDP_CLIENT_SECRET,
    }


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is killed in the end; `environment` is added to the caller's."""
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - fixed programs
            command, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()  # nothing that it has is wanted any more


async def ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `url` has an answer that is no server error."""

    async def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return not (await http.get(url)).is_server_error
        except httpx.TransportError:
            return False

    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        await eventually(answers)
