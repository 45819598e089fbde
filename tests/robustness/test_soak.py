"""What the soak (tests/bench/soak.py) calls growth."""

import random

import pytest
from load import BenchmarkError
from soak import BLOCKS, Sample, Slope


def samples(megabytes_per_million: float, *, noise: float = 0.3, number: int = 400) -> list[Sample]:
    """An hour of samples of a process that grows by so much, and of an allocator that wanders."""
    chance, wandered, taken = random.Random(5), 0.0, []  # noqa: S311 - a repeatable noise
    for requests in range(0, 2_000_000, 2_000_000 // number):
        wandered = 0.9 * wandered + chance.gauss(0, noise)
        taken.append(Sample(requests, 90 + wandered + megabytes_per_million * requests / 1e6, 53, 277))
    return taken


def test_memory_that_wanders_does_not_grow() -> None:
    slope = Slope.of(samples(0.0))
    assert not slope.grows
    assert abs(slope.value) < 3 * slope.error


def test_a_leak_of_two_bytes_a_request_is_found() -> None:
    slope = Slope.of(samples(2.0))
    assert slope.grows
    assert slope.value == pytest.approx(2.0, abs=3 * slope.error)


def test_growth_that_is_sure_but_does_not_matter_is_none() -> None:
    slope = Slope.of(samples(0.5, noise=0.001))
    assert slope.value > 100 * slope.error
    assert not slope.grows


def test_too_few_samples_tell_nothing() -> None:
    with pytest.raises(BenchmarkError, match="not enough"):
        Slope.of(samples(0.0)[: BLOCKS - 1])
