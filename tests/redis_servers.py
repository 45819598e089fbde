"""Real Redis servers on loopback: one by itself, several with Sentinels, and a Cluster."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import redis

from tests.integration.real_parts import real_part
from tests.test_cli import PATIENCE, free_port

PACKAGES = "apt-get install redis-server redis-sentinel"
LOOPBACK = "127.0.0.1"


@dataclass
class RedisServer:
    """One process, `redis-server` unless something else is named, that can be killed, paused and started again."""

    folder: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    program: str = "redis-server"
    password: str | None = None
    tls: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of this server, as a setting has it."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def ask(self, *words: str | int) -> object:
        """What it answers to a command."""
        options = {"ssl": True, **self.tls} if self.tls else {}
        client = redis.Redis(LOOPBACK, self.port, password=self.password, socket_timeout=5, **options)  # type: ignore[arg-type]
        with client:
            answer: object = client.execute_command(*words)  # type: ignore[no-untyped-call]
            return answer

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = real_part(self.program, install=PACKAGES)
        self.folder.mkdir(exist_ok=True)
        command = [program, "--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.folder), "--save", ""]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)  # noqa: S603 - a fixed program
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Return when it does."""
        until = monotonic() + PATIENCE
        while not self._answers():
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert monotonic() < until, "it does not answer"
            sleep(0.02)

    def _answers(self) -> bool:
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


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """One that is killed in the end."""
    server = RedisServer(folder, options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
