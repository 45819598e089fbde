"""Increases, rates, ratios and quantiles over snapshots, as in PromQL."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.cli.watch import FlowState, Snapshot
from seed_oauth.telemetry.contract import ERRORS, TOKEN_EXCHANGE_DURATION, TOKEN_EXCHANGES
from seed_oauth.telemetry.samples import Histogram, Key, Samples

EXCHANGES = TOKEN_EXCHANGES.name
DURATION = TOKEN_EXCHANGE_DURATION.name
BOUNDS = (*TOKEN_EXCHANGE_DURATION.buckets, math.inf)


def sample(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


def snapshot(at: float, values: Mapping[Key, float]) -> Snapshot:
    return Snapshot(Samples(values), at)


def exchanged(success: float, failure: float = 0, grant: str = "authorization_code") -> dict[Key, float]:
    return {
        sample(EXCHANGES, grant_type=grant, result="success"): success,
        sample(EXCHANGES, grant_type=grant, result="failure"): failure,
    }


def histogram(*counts: float) -> Histogram:
    cumulative = tuple(sum(counts[: at + 1]) for at in range(len(counts)))
    return Histogram(BOUNDS, cumulative)


bucket_counts = st.lists(st.integers(0, 10_000), min_size=len(BOUNDS), max_size=len(BOUNDS))
quantiles = st.floats(0, 1, exclude_min=True)
counters = st.dictionaries(
    st.sampled_from([sample(EXCHANGES, result=result) for result in "abcd"]), st.integers(0, 1_000)
)


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    # 50 observations to 0.1 s, 50 more to 0.5 s: the 75th of 100 is half-way through the second bucket.
    assert histogram(50, 50, 0, 0, 0, 0).quantile(0.75) == pytest.approx(0.3)


def test_the_first_bucket_starts_at_zero() -> None:
    assert histogram(10, 0, 0, 0, 0, 0).quantile(0.5) == pytest.approx(0.05)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    slow = histogram(0, 0, 0, 0, 0, 7)
    assert slow.quantile(0.5) == 5.0
    assert slow.saturation == 5.0


def test_there_is_no_quantile_without_observations() -> None:
    assert histogram(0, 0, 0, 0, 0, 0).quantile(0.5) is None
    assert Histogram((), ()).quantile(0.5) is None


def test_there_is_no_quantile_without_the_infinite_bucket() -> None:
    assert Histogram((0.1, 0.5), (1, 2)).quantile(0.5) is None


@pytest.mark.parametrize("q", [0, -0.1, 1.1, math.nan])
def test_a_quantile_outside_0_to_1_is_an_error(q: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        histogram(1, 0, 0, 0, 0, 0).quantile(q)


@given(counts=bucket_counts.filter(any), q=quantiles)
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(counts: list[int], q: float) -> None:
    observed = histogram(*counts)
    value = observed.quantile(q)
    assert value is not None
    holding = next(at for at, below in enumerate(observed.cumulative) if below >= q * observed.count)
    lower = BOUNDS[holding - 1] if holding else 0.0
    assert lower <= value <= min(BOUNDS[holding], 5.0) or value == pytest.approx(lower)


@given(counts=bucket_counts.filter(any), first=quantiles, second=quantiles)
def test_a_higher_quantile_is_never_less(counts: list[int], first: float, second: float) -> None:
    observed = histogram(*counts)
    low, high = observed.quantile(min(first, second)), observed.quantile(max(first, second))
    assert low is not None
    assert high is not None
    assert low <= high + 1e-9


@given(earlier=counters, later=counters)
def test_an_increase_is_never_negative(earlier: dict[Key, float], later: dict[Key, float]) -> None:
    increase = Samples(later).increase_since(Samples(earlier))
    assert all(value >= 0 for value in increase.by(EXCHANGES, "result").values())


@given(counts=st.lists(bucket_counts, min_size=2, max_size=5))
def test_the_buckets_of_an_increase_rise_whatever_restarts(counts: list[list[int]]) -> None:
    flow = FlowState()
    for at, buckets in enumerate(counts):
        flow.add(
            snapshot(
                at,
                {
                    sample(f"{DURATION}_bucket", le=repr(bound)): sum(buckets[: to + 1])
                    for to, bound in enumerate(BOUNDS)
                },
            )
        )
    cumulative = flow.recent.histogram(DURATION).cumulative
    assert list(cumulative) == sorted(cumulative)


def test_a_decreased_counter_is_a_restart() -> None:
    flow = FlowState()
    for at, value in enumerate((100, 110, 4, 6)):
        flow.add(snapshot(at, exchanged(value)))
    assert flow.recent.total(EXCHANGES) == 10 + 4 + 2
    assert flow.since_start.total(EXCHANGES) == 6


def test_a_new_series_counts_from_zero() -> None:
    flow = FlowState()
    flow.add(snapshot(0, exchanged(5)))
    flow.add(snapshot(1, exchanged(5) | exchanged(3, grant="refresh_token")))
    assert flow.recent.total(EXCHANGES) == 3


def test_an_unchanged_bucket_still_bounds_the_next() -> None:
    def observed(upto_half_a_second: float) -> dict[Key, float]:
        name = f"{DURATION}_bucket"
        counts = {"0.1": 4.0, "0.5": 4 + upto_half_a_second, "inf": 4 + upto_half_a_second}
        return {sample(name, le=le): value for le, value in counts.items()}

    flow = FlowState()
    flow.add(snapshot(0, observed(0)))
    flow.add(snapshot(1, observed(10)))
    assert flow.recent.histogram(DURATION).quantile(0.5) == pytest.approx(0.3)


def test_a_rate_is_the_increase_per_second_of_the_window() -> None:
    flow = FlowState(window=10)
    for at, value in ((0, 0), (5, 100), (10, 110), (15, 120)):
        flow.add(snapshot(at, exchanged(value)))
    assert flow.recent_seconds == 10
    assert flow.rate(EXCHANGES, result="success") == 2.0
    assert flow.history(EXCHANGES) == [20.0, 2.0, 2.0]


def test_there_is_no_rate_before_the_second_snapshot() -> None:
    flow = FlowState()
    assert flow.rate(EXCHANGES) is None
    flow.add(snapshot(0, exchanged(5)))
    assert flow.rate(EXCHANGES) is None


def test_snapshots_further_apart_than_the_window_still_give_a_rate() -> None:
    flow = FlowState(window=10)
    flow.add(snapshot(0, exchanged(0)))
    flow.add(snapshot(100, exchanged(50)))
    assert flow.rate(EXCHANGES) == 0.5


def test_snapshots_out_of_order_are_refused() -> None:
    flow = FlowState()
    flow.add(snapshot(1, exchanged(0)))
    with pytest.raises(ValueError, match="order"):
        flow.add(snapshot(1, exchanged(1)))


def test_history_is_bounded() -> None:
    flow = FlowState(history=3)
    for at in range(100):
        flow.add(snapshot(at, exchanged(at * at)))
    assert flow.history(EXCHANGES) == [193.0, 195.0, 197.0]


def test_a_ratio_aggregates_both_sides() -> None:
    samples = Samples(exchanged(8, 2) | exchanged(1, 3, grant="refresh_token"))
    assert samples.share(EXCHANGES, {"result": "success"}) == 9 / 14
    assert samples.share(EXCHANGES, {"result": "success"}, grant_type="refresh_token") == 0.25
    assert samples.share(EXCHANGES, {"grant_type": "refresh_token"}) == 4 / 14
    assert samples.share(EXCHANGES, {"result": "success"}, grant_type="password") is None


def test_instances_in_one_exposition_are_summed() -> None:
    samples = Samples(
        {
            sample(f"{DURATION}_bucket", grant_type="refresh_token", le=le, instance=instance): value
            for instance in ("one", "two")
            for le, value in (("0.1", 1), ("inf", 3))
        }
    )
    assert samples.histogram(DURATION) == Histogram((0.1, math.inf), (2, 6))


def test_the_latest_errors_come_first_then_the_most_frequent_ever() -> None:
    def errors(**reasons: float) -> dict[Key, float]:
        return {
            sample(ERRORS.name, endpoint="token", reason=reason, cause="client"): value
            for reason, value in reasons.items()
        }

    flow = FlowState()
    flow.add(snapshot(0, errors(old=900, older=1000, new=0, never=0)))
    flow.add(snapshot(1, errors(old=900, older=1000, new=2, never=0)))
    assert [(line.reason, line.recent, line.total) for line in flow.top_errors(5)] == [
        ("new", 2, 2),
        ("older", 0, 1000),
        ("old", 0, 900),
    ]
    assert [line.reason for line in flow.top_errors(1)] == ["new"]


def test_idle_and_no_traffic_are_distinct() -> None:
    flow = FlowState()
    flow.add(snapshot(0, exchanged(0)))
    assert (flow.has_traffic, flow.is_quiet) == (False, True)
    flow.add(snapshot(1, exchanged(1)))
    assert (flow.has_traffic, flow.is_quiet) == (True, False)
    flow.add(snapshot(100, exchanged(1)))
    assert (flow.has_traffic, flow.is_quiet) == (True, True)


def test_an_idle_instance_shows_figures_since_its_start() -> None:
    flow = FlowState()
    flow.add(snapshot(0, exchanged(9, 1)))
    flow.add(snapshot(1, exchanged(9, 1)))
    assert flow.best_known(EXCHANGES) is flow.since_start
    flow.add(snapshot(2, exchanged(10, 1)))
    assert flow.best_known(EXCHANGES) is flow.recent
