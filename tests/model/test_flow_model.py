"""The whole flow in any order, against a model of it that predicts each answer and each count."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from tests.model.logins import Logins
from tests.model.machine import FlowMachine

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "220"))
"""Of 50 steps each."""
SEED = os.environ.get("MODEL_SEED")
"""Another seed takes other steps: `MODEL_SEED=7 MODEL_EXAMPLES=2000 pytest tests/model/test_flow_model.py`."""

STEPS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    derandomize=SEED is None,
    database=None,
    print_blob=SEED is None,
    suppress_health_check=list(HealthCheck),
)


def test_whatever_anybody_sends_in_whatever_order_no_promise_is_broken() -> None:
    """THREATS 1, 2, 3, 4, 5, 6, 7, 8 and 17: ten thousand steps, each with its predicted end and the counts of it."""
    Logins.steps = 0
    machine = FlowMachine if SEED is None else seed(int(SEED))(FlowMachine)
    with capture_logs() as lines:
        run_state_machine_as_test(machine, settings=STEPS)
    print(f"{Logins.steps} steps, {len(lines)} lines logged")
    assert Logins.steps >= 10_000 * EXAMPLES / 220
