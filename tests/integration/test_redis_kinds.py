"""Each kind of Redis that the store may be: a whole login, a refresh, the operator's commands."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.certificates import authority_pem, pem_for
from tests.cli.test_cli import free_port, run, serving
from tests.harness import json_of
from tests.integration.login import refresh_from
from tests.integration.real_parts import identity_provider, idp_settings
from tests.redis_servers import LOOPBACK, Tls, cluster, redis_server, sentinels

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("redis")]

PASSWORD = "p@ss/#w:rd%"
IN_A_URL = "p%40ss%2F%23w%3Ard%25"


@contextmanager
def single(folder: Path) -> Iterator[str]:
    with redis_server(folder) as server:
        yield f"redis://{LOOPBACK}:{server.port}/3"


@contextmanager
def with_password(folder: Path) -> Iterator[str]:
    with redis_server(folder, "--requirepass", PASSWORD, password=PASSWORD) as server:
        yield f"redis://:{IN_A_URL}@{LOOPBACK}:{server.port}"


def certificates(folder: Path, host: str = LOOPBACK) -> Tls:
    tls = Tls(folder / "server.pem", folder / "authority.pem")
    tls.certificate.write_bytes(pem_for(host))
    tls.authority.write_text(authority_pem())
    return tls


def trusting(tls: Tls) -> str:
    return f"?{urlencode(tls.connection)}"


@contextmanager
def with_user_and_tls(folder: Path) -> Iterator[str]:
    tls = certificates(folder)
    with redis_server(folder, tls=tls) as server:
        server.ask("ACL", "SETUSER", "door", "on", f">{PASSWORD}", "~seed-oauth:*", "+@all")
        yield f"rediss://door:{IN_A_URL}@{LOOPBACK}:{server.port}{trusting(tls)}"


@contextmanager
def behind_sentinels(folder: Path) -> Iterator[str]:
    tls = certificates(folder)
    with sentinels(folder, tls) as watched:
        yield f"rediss{watched.url.removeprefix('redis')}/0{trusting(tls)}"


@contextmanager
def as_cluster(folder: Path) -> Iterator[str]:
    tls = certificates(folder)
    with cluster(folder, tls) as nodes:
        yield f"rediss{nodes.url.removeprefix('redis')}{trusting(tls)}"


KINDS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "single": single,
    "password": with_password,
    "user and tls": with_user_and_tls,
    "sentinel and tls": behind_sentinels,
    "cluster and tls": as_cluster,
}


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    home = tmp_path / "redis"
    home.mkdir()
    with KINDS[request.param](home) as found:
        yield found


async def test_a_login_a_refresh_and_the_operators_commands_go_through(tmp_path: Path, url: str) -> None:
    """THREATS 12: and nobody says the password."""
    port = free_port()
    environment = {**idp_settings(f"http://127.0.0.1:{port}"), "SEED_OAUTH_STORE_URL": url, "SEED_OAUTH_WORKERS": "2"}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return run(*words, folder=tmp_path, environment=environment)

    async with identity_provider(tmp_path, port), serving(tmp_path, environment) as server:
        assert (await server.http.get(f"{server.url}/readyz")).status_code == 200
        form = await refresh_from(server.http, server.url)
        refreshed = [await server.http.post(f"{server.url}/oauth/token", data=form) for _ in range(2)]
        assert [response.status_code for response in refreshed] == [200, 200]
        assert json_of(refreshed[0]) == json_of(refreshed[1])

        listed = json.loads((await asyncio.to_thread(command, "clients", "list", "--json")).stdout)
        (client,) = listed["clients"]
        assert client["last_used_at"] is not None
        told = await asyncio.to_thread(command, "clients", "revoke", "--yes", client["client_id"])
        assert told.returncode == 0
        log = await server.stop()
    for printed in (log, told.stdout, told.stderr):
        assert PASSWORD not in printed
        assert IN_A_URL not in printed
    assert not (tmp_path / "seed-oauth.db").exists()


async def test_a_certificate_of_a_stranger_is_not_trusted(tmp_path: Path) -> None:
    tls = certificates(tmp_path, "redis.example.com")
    with redis_server(tmp_path / "redis", tls=tls, ssl_check_hostname=False) as server:
        for query in (trusting(tls), ""):  # another host's, and of an authority that nobody knows
            url = f"rediss://{LOOPBACK}:{server.port}{query}"
            listed = await asyncio.to_thread(
                run, "clients", "list", folder=tmp_path, environment={"SEED_OAUTH_STORE_URL": url}
            )
            assert listed.returncode == 1
            assert "cannot be read or written: " in listed.stderr
            assert "Traceback" not in listed.stderr
