"""Forwards the measurements of worker processes to the instruments of the supervisor.

The meter provider of a worker implements the API without an SDK: each measurement becomes a small message, written to
a pipe before the response is sent. The supervisor reads the pipes into the real instruments. Thus measurements
outlive their worker, every series exists once, and a scrape does not wait for workers.
"""

import os
from collections import Counter as Counted
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import orjson
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, NoOpCounter, NoOpHistogram, NoOpMeter
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.metrics import _NoOpGauge as NoOpGauge

from seed_oauth.telemetry.failed_logins import FailedLogin
from seed_oauth.telemetry.tracing import context_of, exemplar_of

Message = list[Any]
"""`[kind, scope, version, schema_url, name, unit, description, buckets]` creates an instrument,
`[number, value, attributes, exemplar]` is a measurement; instruments are numbered in the order of creation.
`["failed login", …]` is one, with the fields of `FailedLogin`; `["states", {…}]` has the values of the gauges of the
process, by name and label value."""

Addition = tuple[int, tuple[tuple[str, Any], ...]]
"""The number of a counter, and the attributes with which something is added to it."""

_FAILED_LOGIN = "failed login"
_STATES = "states"

_MOST_UNSENT = 100_000  # messages; a pipe fills up only while the supervisor is blocked


class ForwardingMeterProvider(MeterProvider):
    """Creates instruments that write their measurements to a pipe.

    Call `send` when a request has been recorded. It never blocks: what does not fit into the pipe is sent by a later
    call.
    """

    def __init__(self, pipe: int) -> None:
        """`pipe` is the file descriptor of the write end of a non-blocking pipe."""
        self._pipe = pipe
        self._instruments = 0
        self._messages: list[Message] = []
        self._unsent: deque[bytes] = deque(maxlen=_MOST_UNSENT)
        self.supervised = True
        """False when the supervisor has closed the pipe."""

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Meter:
        """A meter that forwards counters, gauges and histograms; of a gauge the last value of any worker counts."""
        return _ForwardingMeter(self, name, version, schema_url)

    def send(self, states: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Write the measurements since the last call, and the values of the gauges; an empty message is a heartbeat."""
        if states is not None:
            self._messages.append([_STATES, states])
        self._unsent.append(orjson.dumps(self._messages) + b"\n")
        self._messages = []
        while self._unsent:
            try:
                # A line of at most PIPE_BUF bytes is written atomically, a longer one may be split.
                written = os.write(self._pipe, self._unsent[0])
            except BlockingIOError:
                return
            except BrokenPipeError:
                self.supervised = False
                return
            if written < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][written:]
                return
            self._unsent.popleft()

    def make(self, *instrument: object) -> int:
        """Announce an instrument and return its number."""
        self._messages.append(list(instrument))
        self._instruments += 1
        return self._instruments - 1

    def tell(self, failed: FailedLogin) -> None:
        """Add a failed login to the next message."""
        self._messages.append([_FAILED_LOGIN, *failed])

    def measure(
        self, number: int, value: float, attributes: Mapping[str, Any] | None, exemplar: list[str] | None = None
    ) -> None:
        """Add a measurement to the next message."""
        self._messages.append([number, value, attributes, exemplar])


class _ForwardingMeter(NoOpMeter):
    def __init__(
        self, provider: ForwardingMeterProvider, name: str, version: str | None, schema_url: str | None
    ) -> None:
        super().__init__(name, version, schema_url)
        self._provider = provider
        self._scope = (name, version, schema_url)

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        number = self._provider.make("counter", *self._scope, name, unit, description, None)
        return _ForwardingCounter(self._provider, number, name)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Gauge:
        number = self._provider.make("gauge", *self._scope, name, unit, description, None)
        return _ForwardingGauge(self._provider, number, name)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        buckets = explicit_bucket_boundaries_advisory
        number = self._provider.make("histogram", *self._scope, name, unit, description, buckets)
        return _ForwardingHistogram(self._provider, number, name)


class _ForwardingCounter(NoOpCounter):
    def __init__(self, provider: ForwardingMeterProvider, number: int, name: str) -> None:
        super().__init__(name)
        self._provider = provider
        self._number = number

    def add(self, amount: float, attributes: Mapping[str, Any] | None = None, context: object = None) -> None:
        self._provider.measure(self._number, amount, attributes)


class _ForwardingGauge(NoOpGauge):
    def __init__(self, provider: ForwardingMeterProvider, number: int, name: str) -> None:
        super().__init__(name)
        self._provider = provider
        self._number = number

    def set(self, amount: float, attributes: Mapping[str, Any] | None = None, context: object = None) -> None:
        self._provider.measure(self._number, amount, attributes)


class _ForwardingHistogram(NoOpHistogram):
    def __init__(self, provider: ForwardingMeterProvider, number: int, name: str) -> None:
        super().__init__(name)
        self._provider = provider
        self._number = number

    def record(
        self, amount: float, attributes: Mapping[str, Any] | None = None, context: Context | None = None
    ) -> None:
        self._provider.measure(self._number, amount, attributes, exemplar_of(context))


class Replay:
    """Records the measurements of one worker in the supervisor."""

    def __init__(
        self, pipe: int, meter_provider: MeterProvider, on_failed_login: Callable[[FailedLogin], None] = lambda _: None
    ) -> None:
        """`pipe` is the file descriptor of the read end of a non-blocking pipe."""
        self._pipe = pipe
        self._meter_provider = meter_provider
        self._on_failed_login = on_failed_login
        self._instruments: list[Counter | Gauge | Histogram] = []
        self._begun = b""
        self.closed = False
        """Whether the process has ended."""
        self.states: Mapping[str, Mapping[str, float]] = {}
        """The values of its gauges, by name and label value, as it sent them last."""
        self._lock = Lock()  # push readers collect in their own thread

    def read(self) -> bool:
        """Record everything that has arrived; return whether anything had."""
        with self._lock:
            return not self.closed and self._read()

    def close(self) -> None:
        """Record the rest and close the pipe."""
        with self._lock:
            self._read()
            self.closed = True
            os.close(self._pipe)

    def _read(self) -> bool:
        arrived = False
        counted: Counted[Addition] = Counted()
        while chunk := self._read_chunk():
            arrived = True
            *lines, self._begun = (self._begun + chunk).split(b"\n")
            for line in lines:
                for message in orjson.loads(line):
                    self._apply(message, counted)
        # Adding costs most, and most requests add to the same few series.
        for (number, attributes), value in counted.items():
            counter = self._instruments[number]
            assert isinstance(counter, Counter)  # noqa: S101 - `_apply` has seen to it
            counter.add(value, dict(attributes))
        return arrived

    def _read_chunk(self) -> bytes:
        try:
            return os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return b""

    def _apply(self, message: Message, counted: Counted[Addition]) -> None:
        if message[0] == _FAILED_LOGIN:
            self._on_failed_login(FailedLogin(*message[1:]))
            return
        if message[0] == _STATES:
            self.states = message[1]
            return
        if isinstance(message[0], str):
            self._instruments.append(self._make(*message))
            return
        number, value, attributes, exemplar = message
        instrument = self._instruments[number]
        if isinstance(instrument, Counter):
            counted[number, tuple((attributes or {}).items())] += value
        elif isinstance(instrument, Gauge):
            instrument.set(value, attributes)
        else:
            instrument.record(value, attributes, context_of(exemplar))

    def _make(
        self,
        kind: str,
        scope: str,
        version: str | None,
        schema_url: str | None,
        name: str,
        unit: str,
        description: str,
        buckets: Sequence[float] | None,
    ) -> Counter | Gauge | Histogram:
        # The SDK returns the same instrument for the same scope and name, so workers share it.
        meter = self._meter_provider.get_meter(scope, version, schema_url)
        if kind == "counter":
            return meter.create_counter(name, unit, description)
        if kind == "gauge":
            return meter.create_gauge(name, unit, description)
        return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)
