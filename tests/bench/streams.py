"""Long answers through a proxy: many open event streams, and answers of 10 MB."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from load import BenchmarkError, Request, cpu_seconds, pss_megabytes
from protected_resource import Asked

STREAMS = 1_000
EVENTS = 10  # a second in each stream, by the stand-in MCP server
WARM_UP_STREAMS = 32
OPENING_AT_ONCE = 50
START_SECONDS = 60.0
SETTLE_SECONDS = 1.0

LARGE = 10_000_000  # bytes
LARGE_CONNECTIONS = 4


class Listener(asyncio.Protocol):
    """One client of an event stream."""

    def __init__(self, request: bytes) -> None:
        self.events = 0
        self.first_event = asyncio.get_running_loop().create_future()
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"data: ")
        if self.events and not self.first_event.done():
            self.first_event.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.first_event.done():
            self.first_event.set_exception(BenchmarkError("a stream ended before its first event"))


class Streams:
    """Event streams through one proxy."""

    def __init__(self, asked: Asked) -> None:
        (self._pid,) = asked.pids
        self._url = urlsplit(asked.request.url)
        fields = {"Host": self._url.netloc, **asked.request.fields, "Accept": "text/event-stream"}
        lines = [f"GET {self._url.path}?events HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._opened: list[Listener] = []

    async def open(self, number: int) -> None:
        """Open so many, each of which has had an event then."""
        async with asyncio.timeout(START_SECONDS):
            for begin in range(0, number, OPENING_AT_ONCE):
                await asyncio.gather(*(self._open() for _ in range(begin, min(begin + OPENING_AT_ONCE, number))))

    def close(self) -> None:
        """Leave all of them."""
        for listener in self._opened:
            listener.transport.close()
        self._opened.clear()

    async def cost(self, seconds: float) -> float:
        """CPU microseconds of the proxy for each event that came in that time."""
        before, events = cpu_seconds(self._pid), self._events()
        await asyncio.sleep(seconds)
        spent, came = cpu_seconds(self._pid) - before, self._events() - events
        if not came:
            raise BenchmarkError(f"no events came through {self._url.netloc}")
        return spent * 1e6 / came

    def _events(self) -> int:
        return sum(listener.events for listener in self._opened)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        address = self._url.hostname or "", self._url.port or 0
        _, listener = await loop.create_connection(lambda: Listener(self._request), *address)
        self._opened.append(listener)
        await listener.first_event


async def event_streams(asked: Asked, *, number: int = STREAMS, seconds: float) -> tuple[float, float]:
    """Memory of the proxy for each stream (1,000 bytes), and the share of a core that `number` streams take.

    Raises:
        BenchmarkError: a stream was not opened.
    """
    (pid,) = asked.pids
    streams = Streams(asked)
    try:
        await streams.open(min(WARM_UP_STREAMS, number))
        streams.close()
        await asyncio.sleep(SETTLE_SECONDS)
        before = pss_megabytes(pid)
        await streams.open(number)
        await asyncio.sleep(SETTLE_SECONDS)
        kilobytes = (pss_megabytes(pid) - before) * 1e3 / number
        # By event, so that it says the same on a machine that is late with them.
        return kilobytes, await streams.cost(seconds) * EVENTS * number / 1e6
    except (OSError, TimeoutError) as error:
        raise BenchmarkError(f"{asked.request.url}: {error!r}") from error
    finally:
        streams.close()


def large_answers(asked: Asked, *, seconds: float) -> tuple[float, float]:
    """CPU microseconds of an answer of 10 MB, and how much the resident memory (10^6 bytes) rose at most meanwhile.

    Raises:
        BenchmarkError: an answer was not the one expected.
    """
    (pid,) = asked.pids
    _download(asked, seconds=0)
    before, cpu = _forget_peak(pid), cpu_seconds(pid)
    answered = _download(asked, seconds=seconds)
    return (cpu_seconds(pid) - cpu) * 1e6 / answered, _status(pid, "VmHWM") - before


def _download(asked: Asked, *, seconds: float) -> int:
    """Get large answers for that time over several connections; how many, which is one for each at least."""
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(LARGE_CONNECTIONS) as threads:
        clients = [threads.submit(_one_after_another, asked.request, deadline) for _ in range(LARGE_CONNECTIONS)]
        return sum(client.result() for client in clients)


# wrk gives each answer to its script as a whole, and takes longer for that than the server.
def _one_after_another(request: Request, deadline: float) -> int:
    url, answered, buffer = urlsplit(request.url), 0, bytearray(1024 * 1024)
    connection = HTTPConnection(url.netloc, timeout=60)
    try:
        while not answered or time.monotonic() < deadline:
            connection.request(request.method, f"{url.path}?bytes={LARGE}", request.body, request.headers)
            answer = connection.getresponse()
            size = sum(iter(lambda: answer.readinto(buffer), 0))  # noqa: B023 - read before there is another
            if answer.status != request.status or size != LARGE:
                raise BenchmarkError(f"{request.url}: {answer.status} with {size} bytes")
            answered += 1
    except (OSError, HTTPException) as error:
        raise BenchmarkError(f"{request.url}: {error!r}") from error
    finally:
        connection.close()
    return answered


def _forget_peak(pid: int) -> float:
    """Begin to note the peak of the resident memory anew; what it is now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"\n{name}:")[2].split()[0]) * 1024 / 1e6
