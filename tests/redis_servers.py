"""Real Redis servers on loopback: one by itself, with TLS, with Sentinels, and a Cluster."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import redis

from tests.cli.test_cli import PATIENCE, free_port
from tests.real_parts import path_of

LOOPBACK = "127.0.0.1"
SERVICE = "door"
"""What the Sentinels call the Redis that they watch."""
DOWN_AFTER = 500
"""Milliseconds after which Sentinels and the nodes of a Cluster give one of them up."""


@dataclass(frozen=True)
class Tls:
    """Files of certificates: of the servers and, the same, of their clients, and whom they trust."""

    certificate: Path
    authority: Path

    @property
    def connection(self) -> dict[str, str]:
        """As redis-py, and the URL of a store, name them."""
        certificate = str(self.certificate)
        return {"ssl_ca_certs": str(self.authority), "ssl_certfile": certificate, "ssl_keyfile": certificate}

    def settings(self, port: int) -> list[tuple[str, str]]:
        """What makes a server, or a Sentinel, speak TLS only, with clients that have a certificate."""
        return [
            ("port", "0"),
            ("tls-port", str(port)),
            ("tls-cert-file", str(self.certificate)),
            ("tls-key-file", str(self.certificate)),
            ("tls-ca-cert-file", str(self.authority)),
            ("tls-replication", "yes"),
        ]


@dataclass
class RedisServer:
    """One process that can be killed, paused and started again."""

    folder: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    connection: dict[str, Any] = field(default_factory=dict)
    """What a client of it needs besides, such as a password."""
    tls: Tls | None = None
    program: str = "redis-server"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of this server, as a setting has it."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def ask(self, *words: str | int) -> Any:
        """What it answers to a command."""
        tls = {"ssl": True, **self.tls.connection} if self.tls else {}
        with redis.Redis(LOOPBACK, self.port, **{"socket_timeout": 5, **tls, **self.connection}) as client:
            return client.execute_command(*words)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [path_of(self.program), *self.options]
        if self.program == "redis-server":
            command += ["--bind", LOOPBACK, "--dir", str(self.folder), "--save", ""]
            for name, value in listening(self.port, self.tls):
                command += [f"--{name}", value]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - a fixed program
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """End it without its having a say."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers what it was asked meanwhile."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


def listening(port: int, tls: Tls | None) -> list[tuple[str, str]]:
    """Where a server or a Sentinel listens, and how."""
    return tls.settings(port) if tls else [("port", str(port))]


def until(condition: Any) -> None:
    """Wait until `condition()` holds, of another process."""
    give_up_at = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < give_up_at, "it does not come to hold"
        sleep(0.02)


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    """Start them; they are killed in the end."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            server.start()
        yield


@contextmanager
def redis_server(folder: Path, *options: str, tls: Tls | None = None, **connection: Any) -> Iterator[RedisServer]:
    """One by itself."""
    server = RedisServer(folder, options, connection=connection, tls=tls)
    with running(server):
        yield server


@dataclass
class Watched:
    """A Redis with a replica, and three Sentinels that watch them."""

    servers: list[RedisServer]
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        """Of the Sentinels, as a setting has it."""
        return f"redis+sentinel://{hosts(self.sentinels)}/{SERVICE}"

    def agree_by(self, quorum: int) -> None:
        """How many Sentinels have to miss the leader before another server takes over."""
        for sentinel in self.sentinels:
            sentinel.ask("SENTINEL", "SET", SERVICE, "quorum", quorum)

    def wait_for_replica(self) -> None:
        """Return when the replica has all that the first server was told until now."""
        first, second = self.servers
        told = first.ask("INFO", "replication")["master_repl_offset"]
        until(lambda: second.ask("INFO", "replication").get("slave_repl_offset", -1) >= told)


def hosts(servers: Sequence[RedisServer]) -> str:
    """Where they are, as a URL has it."""
    return ",".join(f"{LOOPBACK}:{server.port}" for server in servers)


@contextmanager
def sentinels(folder: Path, tls: Tls | None = None) -> Iterator[Watched]:
    """A Redis with a replica, and three Sentinels of which two must agree."""
    first = RedisServer(folder / "first", tls=tls)
    second = RedisServer(folder / "second", ("--replicaof", f"{LOOPBACK} {first.port}"), tls=tls)
    watching = []
    for number in range(3):
        home = folder / f"sentinel{number}"
        home.mkdir()
        port = free_port()
        settings = [
            *listening(port, tls),
            ("bind", LOOPBACK),
            ("dir", str(home)),
            ("sentinel", f"monitor {SERVICE} {LOOPBACK} {first.port} 2"),
            ("sentinel", f"down-after-milliseconds {SERVICE} {DOWN_AFTER}"),
            ("sentinel", f"failover-timeout {SERVICE} 3000"),
        ]
        file = home / "sentinel.conf"
        file.write_text("".join(f"{name} {value}\n" for name, value in settings))
        watching.append(RedisServer(home, [str(file)], port, tls=tls, program="redis-sentinel"))
    with running(first, second, *watching):
        watched = Watched([first, second], watching)
        watched.wait_for_replica()
        until(lambda: all(_knows_the_others(one) for one in watching))
        yield watched


def _knows_the_others(sentinel: RedisServer) -> bool:
    return (
        len(sentinel.ask("SENTINEL", "SENTINELS", SERVICE)) == 2
        and len(sentinel.ask("SENTINEL", "REPLICAS", SERVICE)) == 1
    )


@dataclass
class Cluster:
    """Three nodes, each with a third of the keys."""

    nodes: list[RedisServer]

    @property
    def url(self) -> str:
        """Of the nodes, as a setting has it."""
        return f"redis+cluster://{hosts(self.nodes)}"


@contextmanager
def cluster(folder: Path, tls: Tls | None = None) -> Iterator[Cluster]:
    """A Cluster of three."""
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(DOWN_AFTER)]
    create = [path_of("redis-cli")]
    if tls:
        options += ["--tls-cluster", "yes"]
        create += [
            "--tls",
            "--cacert",
            str(tls.authority),
            "--cert",
            str(tls.certificate),
            "--key",
            str(tls.certificate),
        ]
    nodes = [
        RedisServer(folder / f"node{number}", (*options, "--cluster-port", str(free_port())), tls=tls)
        for number in range(3)
    ]
    with running(*nodes):
        create += ["--cluster", "create", *hosts(nodes).split(","), "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True)  # noqa: S603 - a fixed program
        until(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
        yield Cluster(nodes)
