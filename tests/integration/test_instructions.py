"""Speed that stays: instructions of each request under valgrind, as multiples of the floor's in the same run."""

import sys
from collections.abc import Mapping
from pathlib import Path

import history
import pytest
from instructions import Figures, measure, ratios

pytestmark = pytest.mark.real_parts("valgrind")

TOLERANCE = 0.03
"""Runs of the same code differ by 0.3 %, and by 1 % where the machine is busy with eight other things."""

LIMITS = {
    "relay authorize / floor": 1.63,
    "relay token / floor": 1.65,
    "broker authorize / floor": 2.72,
    "broker callback / floor": 2.07,
    "broker token / floor": 0.99,
    "broker login / relay": 1.67,
    "proxy proxied / floor": 0.67,
}
"""What no path may exceed, whatever the history has: what was measured last, and the tolerance. A login in the broker
flow has a limit as a multiple of one in the relay flow, which becomes larger when both take less, and one for each of
its requests; see docs/explanation/performance.md."""

ANOTHER_LOG_LINE = """\
from structlog import get_logger

from seed_oauth.endpoints.boundary import Boundary

answer = Boundary.__call__

async def log_and_answer(self, *arguments):
    get_logger("seed_oauth").info("one more", of="nothing")
    await answer(self, *arguments)

Boundary.__call__ = log_and_answer
"""


@pytest.fixture(scope="module")
def figures() -> Figures:
    return measure()


def slower(found: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    return [
        f"{name}: {before[name]:.3f} before, {found[name]:.3f} now"
        for name in found.keys() & before.keys()
        if found[name] > before[name] * (1 + TOLERANCE)
    ]


def test_no_path_takes_more_instructions_than_the_history_has(figures: Figures) -> None:
    recorded = [entry for entry in history.entries("instructions") if _of_this_python(entry)]
    if not recorded:
        pytest.skip("nothing is recorded of this Python: python tests/bench/instructions.py --record")
    found = ratios(figures)
    assert found.keys() == recorded[-1].ratios.keys()
    # Where the change is worth it: python tests/bench/instructions.py --record, and say so in the commit.
    assert not slower(found, recorded[-1].ratios)


def test_the_paths_keep_within_what_is_promised(figures: Figures) -> None:
    found = ratios(figures)
    assert {name: found[name] for name, limit in LIMITS.items() if found[name] > limit} == {}


def test_one_more_log_line_for_each_request_is_noticed(figures: Figures, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ANOTHER_LOG_LINE)
    with_it = measure(["relay"], ["authorize"], {"PYTHONPATH": str(tmp_path)})
    (noticed,) = slower(ratios({**with_it, "floor": figures["floor"]}), ratios(figures))
    assert noticed.startswith("relay authorize / floor")


def _of_this_python(entry: history.Entry) -> bool:
    # Another version executes other instructions for the same code, and not in the same proportion.
    major, minor, _ = entry.versions["python"].split(".", 2)
    return (int(major), int(minor)) == sys.version_info[:2]
