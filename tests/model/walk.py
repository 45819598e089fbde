"""Walks the model until the first failure: `python -m tests.model.walk`, with --promises-alone to one of a promise."""

import sys

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from tests.model.machine import FlowMachine
from tests.model.test_flow_model import STEPS
from tests.model.world import World

# The first failure will do; nobody reads the shortest. It ends with that, so that there may be many examples.
FIRST = settings(STEPS, max_examples=1_000, phases=[Phase.generate], report_multiple_bugs=False)

if __name__ == "__main__":
    World.only_promises = "--promises-alone" in sys.argv
    with capture_logs():
        run_state_machine_as_test(FlowMachine, settings=FIRST)
