"""`watch` and `demo` on a real terminal of 80 columns and 24 lines."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from time import monotonic, sleep

from tests.cli.test_cli import COMMAND, PATIENCE, free_port

COLUMNS, LINES = 80, 24
HOME = "\x1b[H"


@dataclass
class Terminal:
    """The terminal of a program that draws its view again and again."""

    descriptor: int
    output: str = ""

    def read(self) -> None:
        """Read what the program draws to its end; one that is not read from stops."""
        with suppress(OSError):  # the program has closed it
            while read := os.read(self.descriptor, 65536):
                self.output += read.decode(errors="replace")

    def wait_until(self, done: Callable[[str], bool]) -> None:
        """Wait for what the program draws; fail after some time."""
        deadline = monotonic() + PATIENCE
        while not done(self.output):
            assert monotonic() < deadline, self.output
            sleep(0.05)

    def frames(self) -> list[list[str]]:
        """The complete views, without colours, as lines."""
        *complete, _ = self.output.split(HOME)
        return [without_escapes(frame).rstrip().split("\r\n") for frame in complete[2:]]


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    environment["TERM"] = "xterm-256color"
    process = subprocess.Popen([COMMAND, *arguments], stdin=its, stdout=its, stderr=its, env=environment)  # noqa: S603
    os.close(its)
    seen = Terminal(ours)
    reading = Thread(target=seen.read)
    reading.start()
    try:
        yield seen
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        reading.join()
        os.close(ours)


def is_whole(frame: list[str]) -> bool:
    """Whether the view has everything, and nothing is cut off."""
    text = "\n".join(frame)
    panels = all(f"╭─ {title}" in text for title in ("Authorization", "Token exchange", "Errors", "Identity provider"))
    return panels and text.count("╭") == text.count("╰") and len(frame) <= LINES


def test_the_demo_says_its_url_first_and_keeps_it_visible_and_nothing_is_cut_off() -> None:
    metrics_port = str(free_port())
    with terminal("demo", "--port", "0", "--metrics-port", metrics_port) as demo:
        demo.wait_until(lambda output: "live" in output and output.count(HOME) > 6)
        assert re.match(r"try a login: http://127\.0\.0\.1:\d+ · Ctrl-C to quit", demo.output)
        url = demo.output.split()[3]
        for frame in demo.frames():
            assert url in frame[0]
            assert is_whole(frame), "\n".join(frame)
            assert f"in the browser: http://127.0.0.1:{metrics_port}/" in frame[-1]
        with terminal("watch", f"http://127.0.0.1:{metrics_port}/metrics") as watch:
            watch.wait_until(lambda output: output.count(HOME) > 4)
            for frame in watch.frames():
                assert is_whole(frame), "\n".join(frame)
                assert frame[-1].startswith("Ctrl-C to quit")
