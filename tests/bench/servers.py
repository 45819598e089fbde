"""Starting a program that serves HTTP on loopback, and stopping it again."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load import BenchmarkError, Request, ask

START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.005


@dataclass(frozen=True, kw_only=True)
class Server:
    pid: int
    ready_after: float
    """Seconds from the start of the process to its first expected answer."""


@contextmanager
def running(
    command: list[str],
    *,
    ready: Request,
    environment: Mapping[str, str],
    folder: Path,
    start_seconds: float = START_SECONDS,
) -> Iterator[Server]:
    """Run `command` in `folder` from the moment it answers `ready` until the block is left.

    Raises:
        BenchmarkError: it did not answer as expected in time, or it ended by itself.
    """
    log = folder / "server.log"
    # Settings of the caller's shell, or its coverage, must not reach a contender: they would be measured too.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SEED_OAUTH_", "COVERAGE_"))}
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env={**inherited, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _await_answer(process, ready, deadline=started + start_seconds, log=log)
            yield Server(pid=process.pid, ready_after=time.monotonic() - started)
        except BenchmarkError:
            # If the server died, that is the news, not the request that could not reach it.
            _ensure_alive(process, log)
            raise
        else:
            _ensure_alive(process, log)
        finally:
            _stop(process)


@contextmanager
def many_files() -> Iterator[None]:
    """Allow this process, and the servers that it starts meanwhile, as many open files as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def uvicorn(app: str, port: int) -> list[str]:
    """The command that serves an app of this folder as fast as uvicorn can."""
    fastest = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    # A connection that is closed while it waits for a slow contender's next request would fail that.
    fastest += ["--timeout-keep-alive", "300"]
    here = str(Path(__file__).parent)
    return [sys.executable, "-m", "uvicorn", app, "--app-dir", here, "--port", str(port), *fastest]


def free_port() -> int:
    """A port on loopback that the system gives to nobody else while this process is there.

    A socket that never listens is bound to it; a server that sets SO_REUSEADDR can have it all the same.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    reserved.detach()  # the descriptor stays open
    return port


def _await_answer(process: subprocess.Popen[bytes], ready: Request, *, deadline: float, log: Path) -> None:
    while True:
        try:
            ask(ready)
        except BenchmarkError as error:
            _ensure_alive(process, log)
            if time.monotonic() > deadline:
                raise BenchmarkError(f"not ready in time: {error}\n{_tail(log)}") from error
            time.sleep(POLL_SECONDS)
        else:
            return


def _ensure_alive(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise BenchmarkError(f"ended by itself with exit status {process.returncode}\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path, characters: int = 2000) -> str:
    return log.read_text(errors="replace")[-characters:]
