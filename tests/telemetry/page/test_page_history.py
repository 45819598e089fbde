"""What the page remembers of the counters: increases over periods, charts, and how much memory that takes."""

import gc
import tracemalloc
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth import Pipeline
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry.contract import (
    CONTRACT,
    ERRORS,
    FLOW_STEPS,
    TOKEN_EXCHANGE_DURATION,
    IdpOutcome,
)
from seed_oauth.telemetry.page.figures import POINT
from seed_oauth.telemetry.page.history import COARSE_INTERVAL, COARSE_SPAN, FINE_SPAN, INTERVAL, KEPT, History
from seed_oauth.telemetry.samples import Key, Samples, sample_values
from seed_oauth.telemetry.series import Kind, Series
from seed_oauth.telemetry.steps import Step

EXCHANGED = (FLOW_STEPS.name, frozenset({"step": "exchanged", "client_family": "claude"}.items()))


def exchanged(count: float) -> Samples:
    return Samples({EXCHANGED: count})


def lasting(seconds: float, per_interval: float = 1, begin: float = 1000.0) -> History:
    """A history in which logins are completed at an even rate."""
    history = History()
    for number in range(int(seconds / INTERVAL) + 1):
        history.add(exchanged(number * per_interval), begin + number * INTERVAL)
    return history


def total(history: History, seconds: float) -> float:
    return history.increase(seconds)[0].total(FLOW_STEPS.name, step=Step.EXCHANGED)


@pytest.mark.parametrize(("seconds", "expected"), [(60, 12), (FINE_SPAN, 120), (3600, 720), (COARSE_SPAN, 4320)])
def test_a_period_has_what_was_counted_in_it(seconds: float, expected: float) -> None:
    history = lasting(COARSE_SPAN + 60)
    # The rows of an hour ago are two minutes apart.
    assert total(history, seconds) == pytest.approx(expected, abs=COARSE_INTERVAL / INTERVAL)
    assert history.increase(seconds)[1] == pytest.approx(seconds, abs=COARSE_INTERVAL)
    if seconds <= FINE_SPAN:
        assert total(history, seconds) == expected


@pytest.mark.parametrize("seconds", [FINE_SPAN, 3600, COARSE_SPAN])
def test_soon_after_the_start_a_period_has_what_there_is(seconds: float) -> None:
    history = lasting(50)
    assert (total(history, seconds), history.increase(seconds)[1]) == (10, 50)


def test_what_was_counted_before_the_first_row_is_in_no_period() -> None:
    history = History()
    history.add(exchanged(500), 1000)
    assert (total(history, 60), history.increase(60)[1]) == (0, 0)


def test_a_count_beyond_the_size_of_a_column_is_no_loss() -> None:
    history = History()
    history.add(exchanged(2**32 - 3), 1000)
    history.add(exchanged(2**32 + 4), 1005)
    assert total(history, 60) == 7


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=200))
def test_the_increase_is_the_sum_of_what_was_added(added: list[int]) -> None:
    history, count = History(), 0
    for number, more in enumerate(added):
        count += more
        history.add(exchanged(count), 1000 + number * INTERVAL)
    assert total(history, FINE_SPAN) == sum(added[1:][-120:])


def test_the_charts_have_a_point_per_interval_with_counts_per_minute() -> None:
    history = lasting(3600, per_interval=2)
    assert len(history.fine_points) == 120
    assert len(history.coarse_points) == 30
    at = POINT.index("exchanged")
    assert {point[at] for point in history.fine_points} == {24.0}
    assert {point[at] for point in history.coarse_points} == {24.0}
    assert [point[0] for point in history.fine_points][-2:] == [1000 + 3595, 1000 + 3600]


def test_latencies_are_those_of_the_interval_and_missing_where_there_was_none() -> None:
    pipeline, history = Pipeline(), History()
    for at, seconds in enumerate([0.05, 3.0, None]):
        history.add(Samples(sample_values(pipeline.registry.collect())), 1000 + at * INTERVAL)
        if seconds:
            pipeline.telemetry.record_exchange(GrantType.REFRESH_TOKEN, IdpOutcome.OK, seconds)
            pipeline.telemetry.flush()
    history.add(Samples(sample_values(pipeline.registry.collect())), 1015)
    medians = [point[POINT.index("exchange P50")] for point in history.fine_points]
    assert medians[0] == pytest.approx(0.05)
    assert medians[1] == pytest.approx(3.5)
    assert medians[2] is None


def every_sample(series: Series) -> Mapping[Key, float]:
    bounds = [{"le": repr(bound)} for bound in (*series.buckets, float("inf"))] if series.buckets else [{}]
    name = f"{series.name}_bucket" if series.buckets else series.name
    return {(name, frozenset({**labels, **bound}.items())): 1e6 for labels in series.known for bound in bounds}


def test_six_hours_with_every_count_take_less_than_a_megabyte() -> None:
    values = {key: value for series in CONTRACT for key, value in every_sample(series).items()}
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    history = History()
    at = 0.0
    for number, seconds in enumerate([COARSE_INTERVAL] * 200 + [INTERVAL] * 200):
        at += seconds
        history.add(Samples({key: value * number for key, value in values.items()}), at)
    gc.collect()
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert (len(history.coarse_points), len(history.fine_points)) == (180, 120)
    assert size < 900_000


def test_every_step_and_every_error_of_the_contract_is_kept() -> None:
    assert {FLOW_STEPS, ERRORS, TOKEN_EXCHANGE_DURATION} <= set(KEPT)
    assert all(series.kind is not Kind.GAUGE for series in KEPT)
