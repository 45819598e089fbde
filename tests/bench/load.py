"""One measurement: a fixed load from wrk, and what it cost the server according to /proc."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

LUA = Path(__file__).with_name("load.lua")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SETTLE_SECONDS = 0.2
"""wrk hangs up before the last answers: working on those belongs to this load, not to what comes after."""


class BenchmarkError(Exception):
    """A figure would mean nothing: the message says which request or program was not as expected."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request and the only answer to it that counts."""

    url: str
    status: int
    method: str = "GET"
    body: str = ""
    content_type: str = ""
    location: str = ""
    """What the Location header must begin with; an error redirect is a 302 as well."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Other header fields."""

    @property
    def headers(self) -> dict[str, str]:
        return {**({"Content-Type": self.content_type} if self.content_type else {}), **self.fields}


@dataclass(frozen=True, kw_only=True)
class Cost:
    answered: int
    cpu_microseconds: float
    """User and system time of the server and its children for each answered request."""


def ask(request: Request) -> str:
    """Send the request once and return the body of the answer.

    Raises:
        BenchmarkError: nobody answers, or the answer is not the one expected.
    """
    url = urlsplit(request.url)
    connection = HTTPConnection(url.netloc, timeout=10)
    try:
        target = url._replace(scheme="", netloc="").geturl()
        connection.request(request.method, target, request.body or None, request.headers)
        answer = connection.getresponse()
        body = answer.read().decode()
    except (OSError, HTTPException) as error:
        raise BenchmarkError(f"{request.method} {request.url}: {error}") from error
    finally:
        connection.close()
    location = answer.getheader("Location", "")
    if answer.status != request.status or not location.startswith(request.location):
        raise BenchmarkError(f"{request.method} {request.url}: {answer.status} {location} {body[:500]}")
    return body


def measure(request: Request, *pids: int, concurrency: int, seconds: int) -> Cost:
    """What that load costs the servers `pids` together.

    Raises:
        BenchmarkError: an answer was not the one expected, or a connection failed.
    """
    before = sum(map(cpu_seconds, pids))
    answered = drive(request, concurrency=concurrency, seconds=seconds)
    return Cost(answered=answered, cpu_microseconds=(sum(map(cpu_seconds, pids)) - before) * 1e6 / answered)


def drive(request: Request, *, concurrency: int, seconds: int) -> int:
    """Send `request` for that time over `concurrency` connections and return how many were answered.

    Raises:
        BenchmarkError: an answer was not the one expected, or a connection failed.
    """
    command = [_wrk(), "-t1", f"-c{concurrency}", f"-d{seconds}s", "-s", str(LUA)]
    for name, value in request.headers.items():
        command += ["-H", f"{name}: {value}"]
    command += [request.url, "--", request.method, request.body, str(request.status), request.location]
    report = subprocess.run(command, capture_output=True, text=True, check=False)
    time.sleep(SETTLE_SECONDS)
    if report.returncode:
        raise BenchmarkError(f"wrk failed on {request.url}: {report.stdout}{report.stderr}")
    answered, unexpected, failed, *sample = report.stdout.splitlines()[-1].split(" ", 3)
    if int(unexpected) or int(failed) or not int(answered):
        raise BenchmarkError(
            f"{request.method} {request.url}: of {answered} answers {unexpected} were not {request.status} "
            f"{request.location}, {failed} connections failed; last: {' '.join(sample)[:500]}"
        )
    return int(answered)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its descendants, also of those that have ended."""
    return sum(cpu_seconds_of_each(pid).values())


def cpu_seconds_of_each(pid: int) -> dict[int, float]:
    """The same for each of them; what has ended is its parent's."""
    # The name in parentheses may hold spaces; utime, stime, cutime, cstime are fields 14 to 17 (proc(5)).
    stats = {member: Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split() for member in _family(pid)}
    return {member: sum(map(int, fields[11:15])) / TICKS_PER_SECOND for member, fields in stats.items()}


def resident_megabytes(pid: int) -> float:
    """Resident memory of the process and its descendants, in 10^6 bytes."""
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in _family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pss_megabytes(pid: int) -> float:
    """Memory of the process and its descendants in 10^6 bytes; each page counts once, whoever shares it."""
    rollups = [Path(f"/proc/{member}/smaps_rollup").read_text() for member in _family(pid)]
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in rollups) * 1024 / 1e6


def _family(pid: int) -> list[int]:
    children = {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }
    return [pid, *(member for child in children for member in _family(child))]


def _wrk() -> str:
    if found := shutil.which("wrk"):
        return found
    raise BenchmarkError("wrk is not installed: apt install wrk")
