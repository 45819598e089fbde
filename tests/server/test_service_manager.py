"""systemd's protocol, with real sockets: states by datagram, and a listening socket that is passed on."""

import io
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from seed_oauth.server.service_manager import notify, passed_socket
from tests.cli.test_cli import COMMAND, PATIENCE, Server, free_port, serving

pytestmark = pytest.mark.anyio

KEY = "0123456789abcdef0123456789ABCDEF"

UNUSABLE = "seed-oauth: the socket unit must have one ListenStream= with an address and a port, and no other\n"

# Like systemd, it passes the socket on as descriptor 3 to the process with the ID in the environment.
PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """The socket at which states arrive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(address)
        receiving.setblocking(False)
        yield receiving


async def received(receiving: socket.socket) -> str:
    with anyio.fail_after(PATIENCE):
        await anyio.wait_readable(receiving)
    return receiving.recv(1024).decode()


@asynccontextmanager
async def started(folder: Path, *options: str) -> AsyncIterator[tuple[Server, socket.socket]]:
    address = str(folder / "notify")
    with manager(address) as receiving:
        async with serving(folder, {"NOTIFY_SOCKET": address}, options=options) as server:
            yield server, receiving


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_manager_is_told_when_the_server_is_ready_and_when_it_stops(tmp_path: Path, workers: str) -> None:
    async with started(tmp_path, "--workers", workers) as (server, receiving):
        assert await received(receiving) == "READY=1"
        await server.stop()
        assert receiving.recv(1024) == b"STOPPING=1"
        with pytest.raises(BlockingIOError):  # workers are not the service
            receiving.recv(1024)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_a_state_reaches_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"seed-oauth-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with manager(f"\0{name}") as receiving:
        notify("READY=1")
        assert receiving.recv(1024) == b"READY=1"
    notify("READY=1")  # a manager that is gone disturbs nothing


@contextmanager
def listening(kind: socket.AddressFamily, address: tuple[str, int] | str) -> Iterator[list[str]]:
    """A socket that listens, and the command that passes it on."""
    with socket.socket(kind) as passed:
        passed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        passed.bind(address)
        passed.listen()
        yield [sys.executable, "-c", PASS_ON, str(passed.fileno())]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_socket_of_a_socket_unit_outlives_the_server(tmp_path: Path, workers: str) -> None:
    port = free_port()
    with listening(socket.AF_INET, ("127.0.0.1", port)) as launcher:
        for _ in range(2):
            async with serving(
                tmp_path, {"LISTEN_FDS": "1"}, port=port, options=["--workers", workers],
                launcher=launcher, pass_fds=[int(launcher[-1])],
            ) as server:  # fmt: skip
                assert (await server.http.get(f"{server.url}/healthz")).status_code == 200
                log = await server.stop()
                assert f'"url":"http://127.0.0.1:{port}"' in log
            # A client that comes while nothing runs waits for the next process.
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()


def refused(launcher: list[str], count: str, **environment: str) -> str:
    """What the command says that does not start with this descriptor."""
    done = subprocess.run(  # noqa: S603 - our own command
        [*launcher, COMMAND, "serve", "--metrics-port", "0"], env={**os.environ, "LISTEN_FDS": count, **environment},
        pass_fds=[int(launcher[-1])], capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    return done.stderr


@pytest.mark.parametrize(
    ("kind", "address", "count"),
    [(socket.AF_INET, ("127.0.0.1", 0), "2"), (socket.AF_UNIX, "socket", "1")],
    ids=["two sockets", "no TCP"],
)
def test_a_socket_unit_that_cannot_be_used_is_refused(
    kind: socket.AddressFamily,
    address: tuple[str, int] | str,
    count: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(kind, address) as launcher:
        message = refused(launcher, count)
    assert message == UNUSABLE


@pytest.mark.parametrize("kind", ["datagram", "connection", "FIFO"])
def test_what_is_passed_must_be_a_socket_that_listens(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    passed: socket.socket | io.FileIO
    if kind == "FIFO":  # ListenFIFO=
        os.mkfifo("fifo")
        passed = io.FileIO(os.open("fifo", os.O_RDWR))
    else:  # ListenDatagram=, Accept=yes
        passed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    with passed:
        assert refused([sys.executable, "-c", PASS_ON, str(passed.fileno())], "1") == UNUSABLE


@pytest.mark.parametrize(("kind", "address"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])  # noqa: S104 - refused
def test_a_socket_that_others_can_reach_needs_an_issuer(
    kind: socket.AddressFamily, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(kind, (address, 0)) as launcher:
        done = refused(launcher, "1", SEED_OAUTH_ISSUER="")
    assert done.startswith("seed-oauth: SEED_OAUTH_ISSUER is missing: set it to the public https URL of this server;")
    assert f"the socket unit listens on {address}, " in done


async def test_a_socket_that_others_can_reach_is_used_with_an_issuer(tmp_path: Path) -> None:
    environment = {"LISTEN_FDS": "1", "SEED_OAUTH_ISSUER": "https://door.example", "SEED_OAUTH_SECRET_KEYS": KEY}
    port = free_port()
    with listening(socket.AF_INET, ("0.0.0.0", port)) as launcher:  # noqa: S104 - what is tested
        async with serving(
            tmp_path, environment, port=port, launcher=launcher, pass_fds=[int(launcher[-1])]
        ) as server:  # fmt: skip
            assert (await server.http.get(f"{server.url}/healthz")).status_code == 200


def test_a_socket_for_another_process_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert passed_socket() is None
