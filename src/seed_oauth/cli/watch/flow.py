"""The state of the view: recent figures and totals, from successive snapshots of one instance."""

from collections import deque
from dataclasses import dataclass

from seed_oauth.cli.watch.exposition import Snapshot
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    DCR_REGISTRATIONS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUESTS,
    TOKEN_EXCHANGES,
)
from seed_oauth.telemetry.samples import Samples
from seed_oauth.telemetry.steps import BEGINNING

ACTIVITY = (AUTHORIZATION_REQUESTS, TOKEN_EXCHANGES, DCR_REGISTRATIONS, ERRORS, IDP_REQUESTS, FLOW_STEPS)
"""Counters of which every request increases at least one."""


@dataclass(frozen=True)
class Interval:
    """The increase between two successive snapshots."""

    increase: Samples
    seconds: float


@dataclass(frozen=True)
class ErrorLine:
    """One reason of `oauth_errors_total`, with its counts."""

    endpoint: str
    reason: str
    cause: str
    recent: float
    total: float


class FlowState:
    """Computes figures from snapshots.

    `window` is the period of recent rates, ratios and quantiles in seconds; `history` is the maximum number of
    intervals that are kept for them and for sparklines.
    """

    def __init__(self, *, window: float = 60.0, history: int = 240) -> None:
        self._window = window
        self._latest: Snapshot | None = None
        self._steps: deque[Interval] = deque(maxlen=history)
        self.since_start = Samples()
        """The counters since the start of the instance."""
        self.recent = Samples()
        """Their increases over the last `recent_seconds`."""
        self.recent_seconds = 0.0
        """The period of `recent`: the window or a single longer interval; 0 before the second snapshot."""

    def add(self, snapshot: Snapshot) -> None:
        """Add the next snapshot.

        Raises:
            ValueError: it is not later than the one before.
        """
        if self._latest is not None:
            seconds = snapshot.taken_at - self._latest.taken_at
            if seconds <= 0:
                raise ValueError("snapshots must be added in the order of their time")
            self._steps.append(Interval(snapshot.samples.increase_since(self._latest.samples), seconds))
        self._latest = snapshot
        self.since_start = snapshot.samples
        self._look_back()

    def _look_back(self) -> None:
        steps: list[Interval] = []
        self.recent_seconds = 0.0
        for step in reversed(self._steps):
            # The latest interval always counts, even if it is longer than the window.
            if steps and self.recent_seconds + step.seconds > self._window:
                break
            steps.append(step)
            self.recent_seconds += step.seconds
        self.recent = Samples.summed(step.increase for step in steps)

    @property
    def taken_at(self) -> float | None:
        """The time of the latest snapshot; None before the first."""
        return self._latest.taken_at if self._latest else None

    @property
    def has_traffic(self) -> bool:
        """Whether anything was counted since the start."""
        return any(self.since_start.total(series.name) for series in ACTIVITY)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was counted recently."""
        return not any(self.recent.total(series.name) for series in ACTIVITY)

    def rate(self, name: str, /, **labels: str) -> float | None:
        """Increase per second over the window; None before the second snapshot."""
        return self.recent.total(name, **labels) / self.recent_seconds if self.recent_seconds else None

    def history(self, name: str, /, **labels: str) -> list[float]:
        """The increase per second of every interval that is kept, oldest first."""
        return [step.increase.total(name, **labels) / step.seconds for step in self._steps]

    def best_known(self, name: str, /, **labels: str) -> Samples:
        """`recent` if this series increased recently, else `since_start`, so that a quiet instance shows figures."""
        return self.recent if self.recent.total(name, **labels) else self.since_start

    def top_errors(self, most: int) -> list[ErrorLine]:
        """The `most` frequent reasons, by recent count and then by total."""
        recent = self.recent.by(ERRORS.name, *ERRORS.labels)
        lines = [
            ErrorLine(endpoint, reason, cause, recent.get((endpoint, reason, cause), 0.0), total)
            for (endpoint, reason, cause), total in self.since_start.by(ERRORS.name, *ERRORS.labels).items()
            if total and reason != BEGINNING
        ]
        return sorted(lines, key=lambda line: (-line.recent, -line.total, line.endpoint, line.reason))[:most]
