"""From the text of a metrics listener to the samples the view is made of."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from seed_oauth.cli.watch.samples import Key, Samples
from seed_oauth.telemetry.contract import CONTRACT

NAMES = frozenset(f"{series.name}_bucket" if series.buckets else series.name for series in CONTRACT)
"""The samples that are kept, named as they are printed."""

ADVICE = (
    "The metrics listener of seed_oauth is usually http://127.0.0.1:9464/metrics "
    "(settings SEED_OAUTH_METRICS_HOST and SEED_OAUTH_METRICS_PORT)."
)


class WatchError(Exception):
    """There is nothing to watch. `problem` says what is wrong, the whole text also where to look."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}. {ADVICE}")
        self.problem = problem


@dataclass(frozen=True)
class Snapshot:
    """The samples of one answer and when it was taken, in seconds of a clock that only goes forward."""

    samples: Samples
    taken_at: float


def parse(text: str, *, source: str = "This text", taken_at: float | None = None) -> Snapshot:
    """Read an answer of a metrics listener; `taken_at` is now (`time.monotonic`) when it is not given.

    Raises:
        WatchError: the text is no Prometheus exposition, or has none of our series. `source` is what the
            message calls it.
    """
    try:
        values = _values(text)
    except (ValueError, LookupError) as error:  # LookupError: the parser indexes into lines that end early
        raise WatchError(
            f"{source} is not the metrics listener of seed_oauth: it is no Prometheus exposition"
        ) from error
    if not values:
        raise WatchError(
            f"{source} is not the metrics listener of seed_oauth: it has no series such as {CONTRACT[0].name}"
        )
    return Snapshot(Samples(values), time.monotonic() if taken_at is None else taken_at)


def _values(text: str) -> dict[Key, float]:
    return {
        (sample.name, frozenset(_labels(sample.labels).items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # What counts is finite and not negative; anything else is no count of ours.
        if sample.name in NAMES and 0 <= sample.value < math.inf
    }


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    # The Collector prints le="1" for the bound that the Python exporter prints as le="1.0".
    return {name: repr(float(value)) if name == "le" else value for name, value in labels.items()}
