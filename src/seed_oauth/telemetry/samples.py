"""Sample values and the PromQL operations on them: sums, shares, increases, quantiles.

`seed-oauth watch` computes its figures with it from the text of a scrape, the page from the registry.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from prometheus_client import Metric

from seed_oauth.telemetry.contract import CONTRACT, FLOW_STEPS, RESOURCE_REQUESTS, ResourceResult
from seed_oauth.telemetry.steps import Step

Labels = frozenset[tuple[str, str]]
Key = tuple[str, Labels]
"""The name of a sample (`…_total`, `…_bucket`) and its labels."""

_IN_FRONT = (ResourceResult.ALLOWED, ResourceResult.CHALLENGED)
_NAMES = frozenset(f"{series.name}_bucket" if series.buckets else series.name for series in CONTRACT)


@dataclass(frozen=True)
class Histogram:
    """A classic histogram: upper bounds, the last being +Inf, and cumulative counts of observations."""

    bounds: tuple[float, ...]
    cumulative: tuple[float, ...]

    @property
    def count(self) -> float:
        """The number of observations."""
        return self.cumulative[-1] if self.cumulative else 0.0

    @property
    def saturation(self) -> float | None:
        """The highest finite bound: the true value of a quantile that reaches it may be higher."""
        return self.bounds[-2] if len(self.bounds) > 1 else None

    def counts(self) -> list[float]:
        """The number of observations per bucket, not cumulative."""
        return [after - before for before, after in pairwise((0.0, *self.cumulative))]

    def quantile(self, q: float) -> float | None:
        """PromQL's `histogram_quantile(q, …)` for 0 < q <= 1; None instead of NaN.

        It is interpolated linearly within a bucket, from 0 in the first one; in the last bucket it is the lower bound.
        """
        if not 0 < q <= 1:
            raise ValueError(f"a quantile must be in (0, 1], not {q}")
        if len(self.bounds) < 2 or self.bounds[-1] != math.inf or not self.count:  # noqa: PLR2004 - as Prometheus
            return None
        rank = q * self.count
        at = bisect_left(self.cumulative, rank, hi=len(self.cumulative) - 1)
        if at == len(self.bounds) - 1:
            return self.bounds[-2]
        lower, below = (self.bounds[at - 1], self.cumulative[at - 1]) if at else (0.0, 0.0)
        return lower + (self.bounds[at] - lower) * ((rank - below) / (self.cumulative[at] - below))


class Samples:
    """Sample values by name and labels. Queries sum over the labels that they do not name."""

    def __init__(self, values: Mapping[Key, float] | None = None) -> None:
        self._values = values or {}

    @cached_property
    def _named(self) -> dict[str, list[tuple[Labels, float]]]:
        named: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for (name, labels), value in self._values.items():
            named[name].append((labels, value))
        return dict(named)

    def _matching(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, float]]:
        wanted = frozenset(labels.items())
        return ((own, value) for own, value in self._named.get(name, ()) if wanted <= own)

    def value(self, key: Key) -> float:
        """The value of one sample, 0 if there is none."""
        return self._values.get(key, 0.0)

    def total(self, name: str, /, **labels: str) -> float:
        """`sum(name{labels})`, 0 without samples."""
        return sum(value for _, value in self._matching(name, labels))

    def by(self, name: str, /, *labels: str) -> dict[tuple[str, ...], float]:
        """`sum by (labels) (name)`."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for own, value in self._matching(name, {}):
            values = dict(own)
            sums[tuple(values.get(label, "") for label in labels)] += value
        return dict(sums)

    def share(self, name: str, part: Mapping[str, str], /, **whole: str) -> float | None:
        """`sum(name{whole, part}) / sum(name{whole})`, None if the count is 0."""
        everything = self.total(name, **whole)
        return self.total(name, **{**whole, **part}) / everything if everything else None

    def histogram(self, name: str, /, **labels: str) -> Histogram:
        """`sum by (le) (name_bucket{labels})`."""
        sums: dict[float, float] = defaultdict(float)
        for own, value in self._matching(f"{name}_bucket", labels):
            sums[float(dict(own)["le"])] += value
        cumulative: list[float] = []
        for bound in sorted(sums):
            # Increases across a restart may not be monotonic over the buckets; Prometheus corrects them as well.
            cumulative.append(max(sums[bound], cumulative[-1] if cumulative else 0.0))
        return Histogram(tuple(sorted(sums)), tuple(cumulative))

    def increase_since(self, earlier: "Samples") -> "Samples":
        """The increases since `earlier`, never negative.

        A counter that decreased was reset to 0, as in Prometheus' `increase`. A new one started at 0, because a
        histogram has no buckets before its first observation. Increases of 0 are omitted, except for buckets, whose
        bounds are needed.
        """
        increases: dict[Key, float] = {}
        for key, value in self._values.items():
            before = earlier._values.get(key, 0.0)  # noqa: SLF001 - of the same class
            increase = value if value < before else value - before
            if increase or key[0].endswith("_bucket"):
                increases[key] = increase
        return Samples(increases)

    @classmethod
    def summed(cls, parts: Iterable["Samples"]) -> "Samples":
        """The sum of all parts, by sample."""
        sums: dict[Key, float] = defaultdict(float)
        for part in parts:
            for key, value in part._values.items():  # noqa: SLF001 - of the same class
                sums[key] += value
        return cls(sums)


def sees_uses(samples: Samples) -> bool:
    """Whether the first use of each login is counted here: in front of the MCP server, and in the broker flow.

    A refused request tells nothing: anybody can send one to `/oauth/verify`. In the relay flow nobody returns here, and
    each token counts, not each login.
    """
    requests = (samples.total(RESOURCE_REQUESTS.name, result=it) for it in _IN_FRONT)
    return any(requests) and samples.total(FLOW_STEPS.name, step=Step.RETURNED) > 0


def sample_values(metrics: Iterable[Metric]) -> dict[Key, float]:
    """The samples of the contract's series."""
    return {
        (sample.name, frozenset(_labels(sample.labels).items())): sample.value
        for metric in metrics
        for sample in metric.samples
        # A count is finite and not negative.
        if sample.name in _NAMES and 0 <= sample.value < math.inf
    }


def _labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    # The Collector prints le="1" for the bound that the Python exporter prints as le="1.0".
    return {**labels, "le": repr(float(labels["le"]))} if "le" in labels else labels
