"""A client is asked to log in again for more scopes, and not again and again."""

from dataclasses import replace

from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.step_up import REMEMBERED_FOR, StepUps
from tests.resource_server.issuing import Clock

ALICE = VerifiedToken(
    subject="alice", client_id="client", scopes=frozenset(), expires_at=0, issuer="https://door.example"
)
WRITE = ["files:write"]


def test_a_login_that_did_not_bring_the_scopes_is_the_last_one_for_a_while() -> None:
    clock = Clock()
    step_ups = StepUps(clock)
    assert step_ups.begin(ALICE, "first login", WRITE)
    clock.now += REMEMBERED_FOR - 1
    assert not step_ups.begin(ALICE, "second login", WRITE)
    assert not step_ups.begin(ALICE, "third login", WRITE)
    clock.now += 1
    assert step_ups.begin(ALICE, "third login", WRITE)
    assert not step_ups.begin(ALICE, "fourth login", WRITE)


def test_whoever_did_not_log_in_is_asked_again() -> None:
    step_ups = StepUps(Clock())
    assert step_ups.begin(ALICE, "first login", WRITE)
    assert step_ups.begin(ALICE, "first login", WRITE)


def test_what_is_remembered_is_for_one_user_with_one_client_and_the_same_scopes() -> None:
    step_ups = StepUps(Clock())
    assert step_ups.begin(ALICE, "first login", WRITE)
    for other in (
        replace(ALICE, subject="bob"),
        replace(ALICE, client_id="another"),
        replace(ALICE, issuer="https://other.example"),
    ):
        assert step_ups.begin(other, "second login", WRITE)
    assert step_ups.begin(ALICE, "second login", ["files:read"])


def test_nobody_in_particular_is_asked_every_time() -> None:
    step_ups = StepUps(Clock())
    somebody = replace(ALICE, subject=None)
    assert step_ups.begin(somebody, "first login", WRITE)
    assert step_ups.begin(somebody, "second login", WRITE)
    step_ups.end(somebody, WRITE)


def test_after_a_login_that_brought_the_scopes_nothing_is_remembered() -> None:
    step_ups = StepUps(Clock())
    assert step_ups.begin(ALICE, "first login", WRITE)
    step_ups.end(ALICE, WRITE)
    assert step_ups.begin(ALICE, "second login", WRITE)


def test_a_flood_of_users_does_not_fill_the_memory() -> None:
    step_ups = StepUps(Clock())
    for number in range(10_001):
        assert step_ups.begin(replace(ALICE, subject=str(number)), "first login", WRITE)
    assert step_ups.begin(replace(ALICE, subject="0"), "second login", WRITE)
    assert not step_ups.begin(replace(ALICE, subject="10000"), "second login", WRITE)
