"""The whole flow in any order, against a model of it that predicts each answer and each count."""

import os

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from tests.left_out import CI
from tests.model.logins import Logins
from tests.model.machine import FlowMachine
from tests.model.world import World

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "230" if CI else "12"))
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


REACHED = {
    (AuthorizationOutcome.CONSENT_ASKED, False),
    (AuthorizationOutcome.REDIRECTED_TO_IDP, False),
    (AuthorizationOutcome.BAD_REDIRECT_URI, False),
    (ConsentOutcome.APPROVED, False),
    (ConsentOutcome.DENIED, False),
    (ConsentOutcome.EXPIRED, False),
    (ConsentOutcome.OTHER_BROWSER, False),
    (ConsentOutcome.APPROVED_AFTER_LOGIN, False),
    (CallbackOutcome.RETURNED, False),
    (CallbackOutcome.CONSENT_ASKED, False),
    (CallbackOutcome.EXPIRED, False),
    (CallbackOutcome.OTHER_BROWSER, False),
    (CallbackOutcome.WRONG_ISSUER, False),
    (CallbackOutcome.IDP_INVALID_GRANT, False),
    (CallbackOutcome.NOT_ALLOWED, False),
    (TokenOutcome.EXCHANGED, False),
    (TokenOutcome.BAD_CODE, False),
    (TokenOutcome.CODE_REUSED, False),
    (TokenOutcome.BAD_CODE_VERIFIER, False),
    (TokenOutcome.BAD_REDIRECT_URI, False),
    (TokenOutcome.BAD_RESOURCE, False),
    (TokenOutcome.BAD_SCOPE, False),
    (TokenOutcome.IDP_INVALID_GRANT, False),
    (TokenOutcome.REFRESHED, False),
    (TokenOutcome.REFRESHED, True),
    (TokenOutcome.STORE_FAILED, False),
    (TokenOutcome.BAD_REFRESH_TOKEN, False),
    (TokenOutcome.REFRESH_TOKEN_REUSED, False),
    (TokenOutcome.REFRESH_TOKEN_REVOKED, False),
    (TokenOutcome.GRANT_REVOKED, False),
    (TokenOutcome.NOT_ALLOWED, False),
    (RevocationOutcome.REVOKED, False),
    (CallbackOutcome.SIGNED_IN, False),
    (AccountOutcome.REVOKED, False),
    (AccountOutcome.NOTHING_TO_REVOKE, False),
}
"""The rows that a walk must have been to, and whether with the answer given before: or it would prove nothing."""


def test_whatever_anybody_sends_in_whatever_order_no_promise_is_broken() -> None:
    """THREATS 1, 2, 3, 4, 5, 6, 7, 8, 17 and 29: in CI ten thousand steps, each with its predicted end and count."""
    Logins.steps = 0
    World.ended.clear()
    machine = FlowMachine if SEED is None else seed(int(SEED))(FlowMachine)
    with capture_logs() as lines:
        run_state_machine_as_test(machine, settings=STEPS)
    # Every request that was counted was logged, once.
    assert sum(line["event"] == "request" for line in lines) == World.ended.total()
    if EXAMPLES >= 230:
        assert Logins.steps >= 10_000
        assert set(World.ended) >= REACHED
