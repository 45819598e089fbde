"""A server under valgrind's callgrind: how many instructions it executes for what it is asked."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from load import BenchmarkError

IDLE_SECONDS = 2.0


class Callgrind:
    """Counts the instructions of one process, which was started with `command`. The kernel's are not among them."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        self._counted = 0
        self._idle_rate = 0.0
        # Nothing was counted until now, so that the start took seconds and not minutes.
        self._tell("instrumentation", "on")

    @staticmethod
    def command(program: list[str], folder: Path) -> list[str]:
        """What starts `program` so that it can be counted."""
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / 'counted'}"]
        return [_valgrind(), *options, *program]

    async def measure_idle(self) -> None:
        """Find out what the process executes when nobody asks: uvicorn looks around ten times a second."""
        self._idle_rate = await self._rate(IDLE_SECONDS)

    async def count(self, work: Callable[[int], Awaitable[object]], numbers: range) -> float:
        """Instructions for all pieces of `work`, one after the other, less those of an idle process."""
        self._tell("zero")
        started = time.monotonic()
        for number in numbers:
            await work(number)
        idle = self._idle_rate * (time.monotonic() - started)
        return self._read() - idle

    async def _rate(self, seconds: float) -> float:
        self._tell("zero")
        started = time.monotonic()
        await asyncio.sleep(seconds)
        return self._read() / (time.monotonic() - started)

    def _read(self) -> int:
        self._tell("dump")
        self._counted += 1
        lines = (self._folder / f"counted.{self._counted}").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("totals:")).split()[1])

    def _tell(self, *command: str) -> None:
        told = subprocess.run(["vgdb", f"--pid={self._pid}", *command], capture_output=True, text=True, check=False)
        if told.returncode:
            raise BenchmarkError(f"vgdb {' '.join(command)}: {told.stderr}")


def _valgrind() -> str:
    if found := shutil.which("valgrind"):
        return found
    raise BenchmarkError("valgrind is not installed: apt install valgrind")
