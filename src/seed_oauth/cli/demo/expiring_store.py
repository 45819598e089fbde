"""Storage of the development identity provider for what it has issued."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

MOST_KEPT = 10_000
"""Maximum number of values per store; beyond it, the oldest is removed."""

Value = TypeVar("Value")


class ExpiringStore(Generic[Value]):
    """A bounded store of values with the same lifetime."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        """`lifetime` is in seconds of `clock`."""
        self._lifetime = lifetime
        self._clock = clock
        # Insertion order is the order of expiry.
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def put(self, key: str, value: Value) -> None:
        """Store a value, and replace an existing one."""
        self._values.pop(key, None)
        self._values[key] = self._clock() + self._lifetime, value
        while len(self._values) > MOST_KEPT or self.get(next(iter(self._values))) is None:
            self._values.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """The value, or None if it has expired or is unknown."""
        expiry, value = self._values.get(key, (0.0, None))
        return value if self._clock() < expiry else None

    def take(self, key: str) -> Value | None:
        """Like `get`, and remove the value."""
        value = self.get(key)
        self._values.pop(key, None)
        return value
