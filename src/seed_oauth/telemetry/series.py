"""What describes one metric of the contract."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

Attributes = Mapping[str, str]
"""Labels as recorded: plain strings, because the SDK treats a StrEnum member and its value as different."""


class Kind(StrEnum):
    """The Prometheus type of a metric."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One metric."""

    name: str
    help: str
    labels: tuple[str, ...]
    known: tuple[Attributes, ...]
    """Every possible label set; counters start with all of them at 0."""
    kind: Kind = Kind.COUNTER
    unit: str = ""
    from_settings: tuple[str, ...] = ()
    """More labels, whose values are in the settings; absent where those have only one value."""
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, in `unit`."""


def label_sets(**labels: Iterable[str]) -> tuple[Attributes, ...]:
    """Every combination of these values."""
    return tuple(dict(zip(labels, map(str, values), strict=True)) for values in product(*labels.values()))
