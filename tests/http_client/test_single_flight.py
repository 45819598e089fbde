"""The cache of what is loaded from other servers; discovery, keys and published documents test it further."""

import asyncio
from math import inf
from typing import Any

import pytest

from seed_oauth.http_client.single_flight import SingleFlight, TooManyLoadsError

pytestmark = pytest.mark.anyio


class Source:
    """Values that are numbered as they are loaded, fresh for ten seconds; loads fail with `failure`."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.loads: list[str] = []
        self.failure: Exception | None = None
        self.noted: list[tuple[int, bool]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.cache = SingleFlight(self._load, self._pause, clock=lambda: self.now, **options)

    async def _load(self, key: str) -> tuple[int, float]:
        self.loads.append(key)
        number = len(self.loads)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return number, 10.0

    def _pause(self, _: Exception, attempts: int, is_known: bool) -> float:
        self.noted.append((attempts, is_known))
        return 5.0


async def test_a_value_is_loaded_once_while_it_is_fresh() -> None:
    source = Source()
    assert [await source.cache.get("a") for _ in range(3)] == [1, 1, 1]
    source.now = 10
    assert await source.cache.get("a") == 2


async def test_a_value_that_must_be_newer_is_loaded_again_although_it_is_fresh() -> None:
    source = Source()
    await source.cache.get("a")
    source.now = 3
    assert await source.cache.get("a", within=4) == 1
    assert await source.cache.get("a", within=3) == 2


async def test_all_who_wait_share_one_load_and_one_who_gives_up_does_not_cancel_it() -> None:
    source = Source()
    source.may_answer.clear()
    impatient, *others = [asyncio.create_task(source.cache.get("a")) for _ in range(10)]
    await asyncio.sleep(0)
    impatient.cancel()
    source.may_answer.set()
    assert await asyncio.gather(*others) == [1] * 9
    assert source.loads == ["a"]


async def test_a_failed_load_is_raised_to_all_and_not_repeated_before_its_pause_is_over() -> None:
    source = Source()
    source.failure = ConnectionError("down")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await source.cache.get("a")
    assert source.loads == ["a"]
    source.now = 3
    assert source.cache.seconds_to_next_load("a") == 2
    source.now = 5
    with pytest.raises(ConnectionError):
        await source.cache.get("a")
    assert source.noted == [(1, False), (2, False)]
    source.now, source.failure = 10, None
    assert await source.cache.get("a") == 3
    assert source.cache.seconds_to_next_load("a") == 0


async def test_an_older_value_is_used_while_loading_it_fails_but_not_for_ever() -> None:
    source = Source(stale=20.0)
    await source.cache.get("a")
    source.now, source.failure = 10, ConnectionError("down")
    assert await source.cache.get("a") == 1
    assert isinstance(source.cache.failure("a"), ConnectionError)
    source.now = 29
    assert await source.cache.get("a") == 1
    source.now = 34
    with pytest.raises(ConnectionError):
        await source.cache.get("a")
    assert source.noted == [(1, True), (1, True), (1, False)]


async def test_in_the_background_nobody_waits_for_a_newer_value() -> None:
    source = Source(in_background=True)
    await source.cache.get("a")
    source.now = 10
    source.may_answer.clear()
    assert await source.cache.get("a") == 1
    source.may_answer.set()
    await source.cache.start("a")
    assert source.cache.peek("a") == 2
    assert source.cache.failure("a") is None


async def test_so_many_loads_are_made_at_once_and_no_more() -> None:
    source = Source(may_load=lambda _, loading: len(loading) < 2, capacity=3)
    await source.cache.get("known")
    source.may_answer.clear()
    waiting = [asyncio.create_task(source.cache.get(key)) for key in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLoadsError):
        await source.cache.get("c")
    source.now = 10
    assert await source.cache.get("known") == 1  # rather the older value than none
    source.may_answer.set()
    assert await asyncio.gather(*waiting) == [2, 3]


async def test_the_value_that_was_used_longest_ago_is_dropped_first() -> None:
    source = Source(capacity=2)
    for key in "abac":
        await source.cache.get(key)
    assert (source.cache.peek("a"), source.cache.peek("b")) == (1, None)


async def test_a_value_that_is_dropped_on_purpose_is_not_used_after_a_failure() -> None:
    source = Source()
    await source.cache.get("a")
    source.cache.forget("a")
    source.failure = ValueError("bad")
    with pytest.raises(ValueError, match="bad"):
        await source.cache.get("a", within=inf)


async def test_loads_under_way_are_cancelled_at_the_end() -> None:
    source = Source()
    source.may_answer.clear()
    waiting = asyncio.create_task(source.cache.get("a"))
    await asyncio.sleep(0)
    await source.cache.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
