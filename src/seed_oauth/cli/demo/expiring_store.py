"""Where the development identity provider keeps what it hands out."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

MOST_KEPT = 10_000
"""Values of each kind: beyond it the oldest is forgotten."""

Value = TypeVar("Value")


class ExpiringStore(Generic[Value]):
    """Values that expire, all after the same time, and of which only so many are kept."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        """`lifetime` is in the seconds that `clock` counts."""
        self._lifetime = lifetime
        self._clock = clock
        # Put in order of time, so in order of expiry too: what has to go is always in front.
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def put(self, key: str, value: Value) -> None:
        """Keep a value; one that has this key already is replaced."""
        self._values.pop(key, None)
        self._values[key] = self._clock() + self._lifetime, value
        while len(self._values) > MOST_KEPT or self.get(next(iter(self._values))) is None:
            self._values.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """The value while it lasts."""
        expiry, value = self._values.get(key, (0.0, None))
        return value if self._clock() < expiry else None

    def take(self, key: str) -> Value | None:
        """The value, for the last time."""
        value = self.get(key)
        self._values.pop(key, None)
        return value
