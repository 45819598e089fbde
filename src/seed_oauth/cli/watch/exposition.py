"""Parses the text of a metrics listener into the samples of the view."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from seed_oauth.cli.watch.samples import Key, Samples
from seed_oauth.telemetry.contract import CONTRACT

NAMES = frozenset(f"{series.name}_bucket" if series.buckets else series.name for series in CONTRACT)
"""Names of the samples that are kept."""

ADVICE = (
    "The metrics listener of seed_oauth is usually http://127.0.0.1:9464/metrics "
    "(settings SEED_OAUTH_METRICS_HOST and SEED_OAUTH_METRICS_PORT)."
)


class WatchError(Exception):
    """The metrics cannot be read. `problem` says why; the full message also says where they usually are."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}. {ADVICE}")
        self.problem = problem


@dataclass(frozen=True)
class Snapshot:
    """The samples of one scrape, and its time in seconds of a monotonic clock."""

    samples: Samples
    taken_at: float


def parse(text: str, *, source: str = "This text", taken_at: float | None = None) -> Snapshot:
    """Parse the response of a metrics listener; `taken_at` is `time.monotonic()` by default.

    Raises:
        WatchError: the text is not a Prometheus exposition or has no series of seed_oauth. The message calls it
            `source`.
    """
    try:
        values = _values(text)
    except (ValueError, LookupError) as error:  # LookupError: the parser indexes into lines that end early
        raise WatchError(
            f"{source} is not the metrics listener of seed_oauth: the response is not a Prometheus exposition"
        ) from error
    if not values:
        raise WatchError(f"{source} is not the metrics listener of seed_oauth: the response has no {CONTRACT[0].name}")
    return Snapshot(Samples(values), time.monotonic() if taken_at is None else taken_at)


def _values(text: str) -> dict[Key, float]:
    return {
        (sample.name, frozenset(_labels(sample.labels).items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # A count is finite and not negative.
        if sample.name in NAMES and 0 <= sample.value < math.inf
    }


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    # The Collector prints le="1" for the bound that the Python exporter prints as le="1.0".
    return {name: repr(float(value)) if name == "le" else value for name, value in labels.items()}
