"""How long the event loop keeps what is due waiting."""

import asyncio
from time import monotonic

_INTERVAL = 0.1  # seconds between two measurements; a shorter delay than that may be missed
_HALF = 30.0  # seconds


class LoopLag:
    """The longest delay of the event loop within the last minute, of which at least the last half is complete.

    It does not depend on who reads it, and how often.
    """

    def __init__(self) -> None:
        self._before = self._now = 0.0

    async def measure(self) -> None:
        """Measure until cancelled."""
        half_ends = monotonic() + _HALF
        while True:
            due = monotonic() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            self._now = max(self._now, monotonic() - due)
            if due > half_ends:
                self._before, self._now, half_ends = self._now, 0.0, due + _HALF

    def longest(self) -> dict[str, float]:
        """The delay in seconds."""
        return {"": max(self._before, self._now)}
