"""Parses the text of a metrics listener into the samples of the view."""

import time
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from seed_oauth.telemetry.contract import CONTRACT
from seed_oauth.telemetry.samples import Samples, sample_values

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
        values = sample_values(text_string_to_metric_families(text))
    except (ValueError, LookupError) as error:  # LookupError: the parser indexes into lines that end early
        raise WatchError(
            f"{source} is not the metrics listener of seed_oauth: the response is not a Prometheus exposition"
        ) from error
    if not values:
        raise WatchError(f"{source} is not the metrics listener of seed_oauth: the response has no {CONTRACT[0].name}")
    return Snapshot(Samples(values), time.monotonic() if taken_at is None else taken_at)
