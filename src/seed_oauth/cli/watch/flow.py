"""The flow as it goes: what successive snapshots of one instance say about now and about since its start."""

from collections import deque
from dataclasses import dataclass

from seed_oauth.cli.watch.exposition import Snapshot
from seed_oauth.cli.watch.samples import Samples
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    DCR_REGISTRATIONS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUESTS,
    TOKEN_EXCHANGES,
)

ACTIVITY = (AUTHORIZATION_REQUESTS, TOKEN_EXCHANGES, DCR_REGISTRATIONS, ERRORS, IDP_REQUESTS, FLOW_STEPS)
"""The counters of which at least one moves with every request."""


@dataclass(frozen=True)
class Interval:
    """What was counted between two successive snapshots."""

    increase: Samples
    seconds: float


@dataclass(frozen=True)
class ErrorLine:
    """One reason of `oauth_errors_total`, and how often it was counted."""

    endpoint: str
    reason: str
    cause: str
    recent: float
    total: float


class FlowState:
    """Snapshots turned into figures.

    `window` is the seconds that rates, ratios and quantiles of "recently" look back over; `history` bounds
    how many steps between snapshots are kept for that and for sparklines.
    """

    def __init__(self, *, window: float = 60.0, history: int = 240) -> None:
        self._window = window
        self._latest: Snapshot | None = None
        self._steps: deque[Interval] = deque(maxlen=history)
        self.since_start = Samples()
        """The counters as they stand."""
        self.recent = Samples()
        """Their increases over the last `recent_seconds`."""
        self.recent_seconds = 0.0
        """How far back `recent` goes: the window or one step that is longer; 0 before the second snapshot."""

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next snapshot.

        Raises:
            ValueError: it was not taken after the one before.
        """
        if self._latest is not None:
            seconds = snapshot.taken_at - self._latest.taken_at
            if seconds <= 0:
                raise ValueError("snapshots are added in the order they were taken")
            self._steps.append(Interval(snapshot.samples.increase_since(self._latest.samples), seconds))
        self._latest = snapshot
        self.since_start = snapshot.samples
        self._look_back()

    def _look_back(self) -> None:
        steps: list[Interval] = []
        self.recent_seconds = 0.0
        for step in reversed(self._steps):
            # A step longer than the window still says what is going on, so the newest always counts.
            if steps and self.recent_seconds + step.seconds > self._window:
                break
            steps.append(step)
            self.recent_seconds += step.seconds
        self.recent = Samples.summed(step.increase for step in steps)

    @property
    def taken_at(self) -> float | None:
        """When the latest snapshot was taken; None before the first."""
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
        """The increase per second of every step that is kept, oldest first."""
        return [step.increase.total(name, **labels) / step.seconds for step in self._steps]

    def best_known(self, name: str, /, **labels: str) -> Samples:
        """`recent` when it counted this series, else `since_start`: a quiet instance shows what it did."""
        return self.recent if self.recent.total(name, **labels) else self.since_start

    def top_errors(self, most: int) -> list[ErrorLine]:
        """The `most` frequent reasons, recently first and since the start where that is equal."""
        recent = self.recent.by(ERRORS.name, *ERRORS.labels)
        lines = [
            ErrorLine(endpoint, reason, cause, recent.get((endpoint, reason, cause), 0.0), total)
            for (endpoint, reason, cause), total in self.since_start.by(ERRORS.name, *ERRORS.labels).items()
            if total
        ]
        return sorted(lines, key=lambda line: (-line.recent, -line.total, line.endpoint, line.reason))[:most]
