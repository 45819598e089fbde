"""What can go wrong with the store, brought about for real: how it begins, and how it ends."""

import os
import resource
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seed_oauth.outcomes import RegistrationOutcome
from tests.cli.test_cli import free_port
from tests.faults.fault import Fault
from tests.redis_servers import LOOPBACK, redis_server, sentinels

RETRY_AFTER = "5"


def nothing(_: int) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Happening:
    """A store and its trouble. `begin` and `end` are told the process id of the door."""

    url: str
    begin: Callable[[int], None]
    end: Callable[[int], None]
    from_the_start: bool = False
    """Whether it began before the door was started."""
    launcher: Sequence[str] = ()
    """The command that starts the door."""


Happens = Callable[[Path], AbstractContextManager[Happening]]


@dataclass(frozen=True)
class Trouble:
    """A fault, and how it is brought about in a folder of its own."""

    fault: Fault
    happens: Happens


TROUBLES: list[Trouble] = []


def trouble(name: str, afterwards: str) -> Callable[[Callable[[Path], Iterator[Happening]]], Happens]:
    """List a trouble that every registration ends by, as long as it lasts."""
    fault = Fault(
        name=name, outcome=RegistrationOutcome.STORE_FAILED, retry_after=RETRY_AFTER, afterwards=afterwards
    )  # fmt: skip

    def add(happens: Callable[[Path], Iterator[Happening]]) -> Happens:
        TROUBLES.append(Trouble(fault, contextmanager(happens)))
        return TROUBLES[-1].happens

    return add


@trouble("Redis killed", "reconnects automatically; with `appendonly yes` and `appendfsync always` no client is lost")
def redis_killed(folder: Path) -> Iterator[Happening]:
    with redis_server(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield Happening(server.url, lambda _: server.kill(), lambda _: server.start())


@trouble("Redis paused", "one request per second waits one second; the others are answered at once")
def redis_paused(folder: Path) -> Iterator[Happening]:
    with redis_server(folder) as server:
        yield Happening(server.url, lambda _: server.pause(), lambda _: server.go_on())


@trouble("Redis failing over", "the Sentinels name the new primary; clients and used refresh tokens are kept")
def redis_failing_over(folder: Path) -> Iterator[Happening]:
    folder.mkdir()
    with sentinels(folder) as watched:

        def begin(_: int) -> None:
            watched.wait_for_replica()
            # No two agree that it is gone before the test has looked.
            watched.agree_by(len(watched.sentinels) + 1)
            watched.servers[0].kill()

        def end(_: int) -> None:
            watched.agree_by(2)

        yield Happening(watched.url, begin, end)


@trouble("Redis made a replica", "writes succeed as soon as they are allowed")
def redis_made_a_replica(folder: Path) -> Iterator[Happening]:
    nobody = str(free_port())
    with redis_server(folder) as server:
        yield Happening(
            server.url,
            lambda _: server.ask("REPLICAOF", LOOPBACK, nobody),
            lambda _: server.ask("REPLICAOF", "NO", "ONE"),
        )


@trouble("Redis full", "no stored key is evicted (`maxmemory-policy noeviction`)")
def redis_full(folder: Path) -> Iterator[Happening]:
    with redis_server(folder) as server:

        def limit_memory_to(size: int) -> Callable[[int], Any]:
            return lambda _: server.ask("CONFIG", "SET", "maxmemory", size)

        yield Happening(server.url, limit_memory_to(1), limit_memory_to(0))


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/clients.db"


@trouble(
    "SQLite: the folder is missing",
    "the file is opened as soon as the folder exists, for example on a volume that is mounted late",
)
def folder_gone(folder: Path) -> Iterator[Happening]:
    yield Happening(sqlite_url(folder), nothing, lambda _: folder.mkdir(), from_the_start=True)


@trouble("SQLite: locked by another process", "a write waits two seconds; everything else continues")
def locked(folder: Path) -> Iterator[Happening]:
    folder.mkdir()
    other = sqlite3.connect(folder / "clients.db", isolation_level=None, check_same_thread=False)
    yield Happening(sqlite_url(folder), lambda _: _execute(other, "BEGIN IMMEDIATE"), lambda _: _execute(other, "END"))
    other.close()


def _execute(connection: sqlite3.Connection, statement: str) -> None:
    connection.execute(statement)


@trouble("SQLite: the disk is full", "earlier writes are kept")
def disk_full(folder: Path) -> Iterator[Happening]:
    folder.mkdir()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit_files_to(size: int) -> Callable[[int], None]:
        # To the process it is the same: no file can grow.
        return lambda door: _limit_files(door, size, hard)

    yield Happening(sqlite_url(folder), limit_files_to(1), limit_files_to(hard))


def _limit_files(process: int, size: int, hard: int) -> None:
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))


@trouble("SQLite: read-only", "writes succeed as soon as they are allowed")
def read_only(folder: Path) -> Iterator[Happening]:
    folder.mkdir()
    file = folder / "clients.db"
    file.touch(0o400)
    # Root may write what nobody may, unless it gave that up.
    launcher: list[str] = []
    if os.geteuid() == 0:
        launcher = ["setpriv", "--bounding-set=-dac_override"]
    yield Happening(sqlite_url(folder), nothing, lambda _: file.chmod(0o600), from_the_start=True, launcher=launcher)


@trouble("SQLite: corrupt", "the file is reopened after it is restored, or created after it is removed")
def corrupt(folder: Path) -> Iterator[Happening]:
    folder.mkdir()
    file = folder / "clients.db"
    file.write_bytes(b"x" * 4096)
    yield Happening(sqlite_url(folder), nothing, lambda _: file.unlink(), from_the_start=True)
