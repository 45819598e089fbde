"""The figures of the page: the verdict, the steps, the errors with what to do."""

from collections.abc import Mapping
from typing import Any

import pytest

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    Cause,
    ClientFamily,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.outcomes.remedies import REMEDIES
from seed_oauth.telemetry.contract import (
    ENDPOINTS,
    ERRORS,
    FLOW_STEPS,
    READY,
    RESOURCE_REQUESTS,
    WORKER_UP,
    error_attributes,
)
from seed_oauth.telemetry.page.figures import MOST_ERRORS, period, state, verdict
from seed_oauth.telemetry.samples import Key, Samples
from seed_oauth.telemetry.steps import Step

WELL = {"workers": [{"worker": "0", "up": True}], "checks": [{"check": "store", "passed": True}]}


def sample(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


def counted(
    *errors: tuple[Outcome, int],
    family: ClientFamily = ClientFamily.CLAUDE,
    steps: Mapping[str, int] | None = None,
    requests: int = 0,
    result: str = "allowed",
    **more: int,
) -> Samples:
    taken = {**(steps or {}), **more}
    return Samples(
        {sample(FLOW_STEPS.name, step=step, client_family=family): count for step, count in taken.items()}
        | {sample(ERRORS.name, **error_attributes(outcome)): count for outcome, count in errors}
        | {sample(RESOURCE_REQUESTS.name, result=result): requests}
    )


def shown(samples: Samples) -> dict[str, Any]:
    return period(samples, 60, WELL)


@pytest.mark.parametrize(
    ("samples", "level", "words"),
    [
        (counted(), "idle", "No logins."),
        (counted((TokenOutcome.BAD_CODE, 1)), "idle", "No login was completed; requests that failed: 1."),
        (
            counted((AuthorizationOutcome.BAD_SCOPE, 3), requested=3),
            "warning",
            "No login was completed; requests that failed: 3.",
        ),
        (counted(requested=3, redirected=3, refreshed=50), "warning", "No login was completed."),
        (counted(refreshed=1200), "good", "Refreshes work: 1,200."),
        (counted(exchanged=1200), "good", "Logins work: 1,200 got tokens."),
        (counted((TokenOutcome.BAD_CODE, 500), exchanged=5), "good", "Logins work: 5 got tokens."),
        (
            counted((CallbackOutcome.IDP_TIMEOUT, 2), exchanged=98),
            "warning",
            "Logins fail: 2 because of the identity provider. 98 got tokens.",
        ),
        (
            counted((CallbackOutcome.IDP_TIMEOUT, 5), (CallbackOutcome.STORE_FAILED, 6), exchanged=9),
            "bad",
            "Logins fail: 5 because of the identity provider and 6 because of this server. 9 got tokens.",
        ),
        (
            counted((CallbackOutcome.STORE_FAILED, 1)),
            "bad",
            "Logins fail: 1 because of this server. 0 got tokens.",
        ),
        (
            counted((RevocationOutcome.IDP_FAILED, 9), (RegistrationOutcome.STORE_FAILED, 9), exchanged=5),
            "good",
            "Logins work: 5 got tokens.",
        ),
        (
            counted(
                (ResourceOutcome.TOKEN_CHECK_UNAVAILABLE, 1), (ResourceOutcome.BAD_TOKEN, 50), requests=59, exchanged=5
            ),
            "warning",
            "Logins work: 5 got tokens. Requests to the MCP server fail: 1 of 60.",
        ),
        (
            counted((ResourceOutcome.MCP_SERVER_UNREACHABLE, 9)),
            "bad",
            "No login was completed; requests that failed: 9. Requests to the MCP server fail: 9 of 9.",
        ),
        (counted((TokenOutcome.IDP_TIMEOUT, 1), exchanged=1, refreshed=999), "good", "Logins work: 1 got tokens."),
    ],
)
def test_the_first_sentence_says_whether_all_is_well(samples: Samples, level: str, words: str) -> None:
    assert verdict(samples, WELL) == {"level": level, "text": words}


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (counted(returned=12, exchanged=12, requests=1), "claude used 0 of 12"),
        (counted(returned=12, exchanged=30, used=2, requests=1, result="challenged"), "claude used 2 of 30"),
    ],
)
def test_clients_that_are_connected_and_do_nothing_are_in_the_first_sentence(samples: Samples, words: str) -> None:
    said = verdict(samples, WELL)
    assert said["level"] == "warning"
    assert f" Clients do not use them: {words}. `seed-oauth doctor --alert" in said["text"]


@pytest.mark.parametrize(
    "samples",
    [
        counted(returned=12, exchanged=30, used=3, requests=1),
        counted(returned=4, exchanged=4, requests=1),
        counted(returned=12, exchanged=12, requests=0),
        counted(exchanged=12, requests=1),
    ],
    ids=["a tenth is used", "a few logins", "another job protects the MCP server", "relay flow"],
)
def test_tokens_that_are_not_used_are_no_trouble_otherwise(samples: Samples) -> None:
    assert verdict(samples, WELL)["level"] == "good"


def test_a_worker_that_does_not_respond_comes_first() -> None:
    now = {"workers": [{"worker": "0", "up": True}, {"worker": "1", "up": False}], "checks": []}
    assert verdict(counted(exchanged=5), now) == {"level": "bad", "text": "Worker 1 does not respond."}


def test_a_check_of_the_readiness_that_fails_comes_next() -> None:
    now = {"workers": [], "checks": [{"check": "mcp_server", "passed": False}, {"check": "idp", "passed": True}]}
    said = verdict(counted(exchanged=5), now)
    assert said == {"level": "bad", "text": "Not ready: mcp server. The log and `seed-oauth doctor` say why."}


def test_workers_and_checks_are_those_of_now() -> None:
    samples = Samples(
        {
            sample(WORKER_UP.name, worker="1"): 0,
            sample(WORKER_UP.name, worker="0"): 1,
            sample(READY.name, check="store"): 1,
        }
    )
    assert state(samples) == {
        "workers": [{"worker": "0", "up": True}, {"worker": "1", "up": False}],
        "checks": [{"check": "store", "passed": True}],
    }


def test_every_step_of_the_contract_is_shown_in_its_order() -> None:
    steps = shown(counted(requested=3))["steps"]
    assert [step["step"] for step in steps] == list(Step)
    assert {step["step"] for step in steps if step["aside"]} == {"refreshed", "abandoned", "stepped_up"}


@pytest.mark.parametrize(
    ("steps", "loss"),
    [
        ({}, None),
        ({"requested": 5, "redirected": 5, "returned": 5, "exchanged": 5}, None),
        (
            {"registered": 90, "requested": 50, "redirected": 40, "returned": 15, "exchanged": 12},
            {"from": "redirected", "to": "returned", "lost": 25, "of": 40},
        ),
        # In the relay flow nobody returns here.
        (
            {"requested": 9, "redirected": 9, "exchanged": 8},
            {"from": "redirected", "to": "exchanged", "lost": 1, "of": 9},
        ),
        # An identity provider that nobody comes back from.
        ({"requested": 9, "redirected": 9}, {"from": "redirected", "to": "returned", "lost": 9, "of": 9}),
    ],
)
def test_the_step_at_which_most_are_lost_is_named(steps: dict[str, int], loss: dict[str, Any] | None) -> None:
    assert shown(counted(steps=steps))["loss"] == loss


def test_a_step_is_compared_with_the_one_before_it_that_every_login_takes() -> None:
    taken = {"registered": 3, "requested": 9, "consented": 5, "redirected": 8, "exchanged": 6, "refreshed": 20}
    steps = {step["step"]: step["of"] for step in shown(counted(steps=taken))["steps"]}
    assert {step: before for step, before in steps.items() if before is not None} == {"redirected": 9, "exchanged": 8}


@pytest.mark.parametrize(
    ("requests", "loss"), [(30, {"from": "exchanged", "to": "used", "lost": 8, "of": 9}), (0, None)]
)
def test_tokens_that_are_never_used_are_a_loss_where_requests_to_the_mcp_server_are_seen(
    requests: int, loss: dict[str, Any] | None
) -> None:
    steps = {"requested": 9, "redirected": 9, "returned": 9, "exchanged": 9, "used": 1 if requests else 0}
    assert shown(counted(steps=steps, requests=requests))["loss"] == loss


@pytest.mark.parametrize(
    ("result", "returned"), [("refused", 9), ("allowed", 0)], ids=["a stranger's request", "relay flow"]
)
def test_tokens_that_are_not_used_are_no_loss_where_their_use_is_not_seen(result: str, returned: int) -> None:
    steps = {"requested": 9, "redirected": 9, "returned": returned, "exchanged": 9}
    assert shown(counted(steps=steps, requests=3, result=result))["loss"] is None


def test_the_401_with_which_every_login_begins_is_no_error() -> None:
    figures = shown(counted((ResourceOutcome.NO_TOKEN, 50), exchanged=2))
    assert figures["errors"] == []
    assert figures["verdict"]["text"] == "Logins work: 2 got tokens."
    assert shown(counted((ResourceOutcome.NO_TOKEN, 50)))["verdict"]["text"] == "No logins."


def test_the_challenges_with_which_logins_begin_are_no_failed_requests() -> None:
    samples = Samples(
        {
            sample(RESOURCE_REQUESTS.name, result=result): count
            for result, count in {"allowed": 8, "challenged": 90, "refused": 2}.items()
        }
    )
    assert {"name": "MCP request", "good": 8, "all": 10} in shown(samples)["successes"]


def test_families_without_a_login_are_left_out() -> None:
    families = shown(counted(family=ClientFamily.CURSOR, requested=4, exchanged=1))["families"]
    assert families == [{"family": "cursor", "requested": 4, "exchanged": 1, "used": None}]


def test_errors_that_the_operator_can_help_come_first_with_cause_and_remedy() -> None:
    errors = shown(
        counted(
            (TokenOutcome.BAD_CODE, 100),
            (CallbackOutcome.IDP_SERVER_ERROR, 2),
            (CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS, 3),
            (CallbackOutcome.DENIED, 1),
        )
    )["errors"]
    assert [(error["reason"], error["count"]) for error in errors] == [
        ("idp_refused_our_credentials", 3),
        ("idp_server_error", 2),
        ("bad_code", 100),
        ("denied", 1),
    ]
    known = REMEDIES[CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS]
    assert (errors[0]["why"], errors[0]["remedy"]) == (known.cause, known.remedy)
    assert errors[1]["why"] == ""
    assert "seed-oauth doctor" in errors[1]["remedy"]


def test_every_error_has_a_remedy_in_plain_text() -> None:
    for outcomes in ENDPOINTS:
        for outcome in outcomes:
            if outcome.cause is not None and outcome is not ResourceOutcome.NO_TOKEN:
                (error,) = shown(counted((outcome, 1)))["errors"]
                assert error["remedy"]
                assert "](" not in error["why"] + error["remedy"]
                assert error["cause"] in set(Cause)


def test_there_are_never_too_many_errors_to_read() -> None:
    every = [(outcome, 1) for outcomes in ENDPOINTS for outcome in outcomes if outcome.cause is not None]
    assert len(shown(counted(*every))["errors"]) == MOST_ERRORS
