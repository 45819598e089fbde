"""The counters of the last hours, in memory: rows of cumulative counts in two resolutions.

The columns are the closed label sets of the contract, so the size does not depend on traffic.
"""

import math
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CONSENT_DECISIONS,
    DCR_REGISTRATIONS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUESTS,
    RESOURCE_REQUESTS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
)
from seed_oauth.telemetry.page.figures import Point, point
from seed_oauth.telemetry.samples import Key, Samples
from seed_oauth.telemetry.series import Series

KEPT = (
    AUTHORIZATION_REQUESTS,
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CONSENT_DECISIONS,
    DCR_REGISTRATIONS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUESTS,
    RESOURCE_REQUESTS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
)
"""The series that the page shows over time."""

INTERVAL = 5.0
"""Seconds between two rows of the last ten minutes."""
COARSE_INTERVAL = 120.0
"""Seconds between two rows of the last six hours."""
FINE_SPAN = 600.0
COARSE_SPAN = 6 * 3600.0

_MODULUS = 1 << 32  # of an array's items


def _keys(series: Series) -> Iterator[Key]:
    for labels in series.known:
        if series.buckets:
            for bound in (*series.buckets, math.inf):
                yield f"{series.name}_bucket", frozenset({**labels, "le": repr(bound)}.items())
        else:
            yield series.name, frozenset(labels.items())


_COLUMNS = tuple(key for series in KEPT for key in _keys(series))


@dataclass(frozen=True, slots=True)
class Row:
    """The counts at a time, in seconds since the epoch."""

    at: float
    counts: "array[int]"


class History:
    """Remembers the counters, and computes their increase over a period and the points of the charts."""

    def __init__(self) -> None:
        # One row more than intervals. The two share the rows that are in both.
        self._fine: deque[Row] = deque(maxlen=int(FINE_SPAN / INTERVAL) + 1)
        self._coarse: deque[Row] = deque(maxlen=int(COARSE_SPAN / COARSE_INTERVAL) + 1)
        self.fine_points: deque[Point] = deque(maxlen=int(FINE_SPAN / INTERVAL))
        """One per interval of the last ten minutes."""
        self.coarse_points: deque[Point] = deque(maxlen=int(COARSE_SPAN / COARSE_INTERVAL))
        """One per interval of the last six hours."""

    def add(self, samples: Samples, at: float) -> None:
        """Add the counters at a time, which never goes back; the first ones are the zero of the history."""
        row = Row(at, array("I", (int(samples.value(key)) % _MODULUS for key in _COLUMNS)))
        _append(self._fine, self.fine_points, row)
        # Half an interval early or late is the same row.
        if not self._coarse or at - self._coarse[-1].at > COARSE_INTERVAL - INTERVAL / 2:
            _append(self._coarse, self.coarse_points, row)

    def increase(self, seconds: float) -> tuple[Samples, float]:
        """The increases over the last `seconds`, and the seconds that they really cover; there must be a row."""
        latest = self._fine[-1]
        rows = self._fine if seconds <= FINE_SPAN else self._coarse
        begin = latest.at - seconds - INTERVAL / 2
        earlier = next((row for row in rows if row.at >= begin), latest)
        return _increase(earlier, latest), latest.at - earlier.at


def _append(rows: deque[Row], points: deque[Point], row: Row) -> None:
    if rows:
        points.append(point(_increase(rows[-1], row), row.at - rows[-1].at, row.at))
    rows.append(row)


def _increase(earlier: Row, later: Row) -> Samples:
    counts = zip(_COLUMNS, earlier.counts, later.counts, strict=True)
    # The remainder is the increase also after a count has passed the modulus.
    return Samples({key: float((after - before) % _MODULUS) for key, before, after in counts})
