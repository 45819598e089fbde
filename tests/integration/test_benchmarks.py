"""The benchmarks of the protected resource start and give their figures. How large these are is not looked at."""

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from load import ask
from protected_resource import Asked, in_turns, medians, started
from streams import event_streams, large_answers

pytestmark = pytest.mark.real_parts("wrk", "nginx")


@pytest.fixture(scope="module")
def asked() -> Iterator[Mapping[str, Asked]]:
    with started(["nginx"]) as asked:
        yield asked


def test_everything_that_is_compared_gives_the_answer_that_is_expected(asked: Mapping[str, Asked]) -> None:
    assert asked.keys() == {
        "proxied call",
        "proxied call with ES256",
        "proxied call with RS256",
        "floor",
        "nginx, cached",
        "/oauth/verify",
        "empty route",
    }
    for each in asked.values():
        ask(each.request)


def test_a_proxied_request_and_the_floor_have_their_cost(asked: Mapping[str, Asked]) -> None:
    compared = {name: asked[name] for name in ("proxied call", "floor")}
    costs = medians(in_turns(compared, rounds=1, seconds=1, connections=[16]))
    assert costs.keys() == compared.keys()
    assert all(row["@16"] > 0 for row in costs.values())


def test_open_event_streams_have_their_cost(asked: Mapping[str, Asked]) -> None:
    _, cores = asyncio.run(event_streams(asked["proxied call"], number=16, seconds=2))
    assert cores > 0


def test_large_answers_have_their_cost(asked: Mapping[str, Asked]) -> None:
    microseconds, _ = large_answers(asked["proxied call"], seconds=0)
    assert microseconds > 0
