"""The figures of the page, as JSON has them, from the increase of the counters over a period."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from operator import itemgetter
from typing import Any

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    Cause,
    ClientFamily,
    ConsentOutcome,
    Outcome,
    ResourceOutcome,
    TokenOutcome,
)
from seed_oauth.outcomes.remedies import REMEDIES
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CONSENT_DECISIONS,
    DCR_REGISTRATIONS,
    ENDPOINTS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUESTS,
    READY,
    RESOURCE_REQUESTS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
    WORKER_UP,
    ResourceResult,
)
from seed_oauth.telemetry.samples import Samples, sees_uses
from seed_oauth.telemetry.series import Series
from seed_oauth.telemetry.steps import BEGINNING, ON_THE_WAY, Step

Point = list[float | None]
"""What the charts show of one interval, in the order of `POINT`."""

POINT = (
    "at",
    "requested",
    "exchanged",
    *(cause.value for cause in Cause),
    *(f"{what} P{percent}" for what in ("exchange", "wait") for percent in (50, 95, 99)),
)
"""Seconds since the epoch, counts per minute, and latencies in seconds."""

ASIDE = frozenset({Step.REFRESHED, Step.ABANDONED, Step.STEPPED_UP})
"""Steps that are not on the way of a login from its first request to its last."""

MOST_ERRORS = 10
"""Reasons that are listed."""

QUANTILES = (0.5, 0.95, 0.99)

_SUCCESSES = (
    ("registration", DCR_REGISTRATIONS, {"result": "success"}),
    ("authorization", AUTHORIZATION_REQUESTS, {"result": "success"}),
    ("consent", CONSENT_DECISIONS, {"decision": "approved"}),
    ("callback", CALLBACKS, {"result": "success"}),
    ("exchange of a code", TOKEN_EXCHANGES, {"result": "success"}),
    ("refresh", TOKEN_EXCHANGES, {"result": "success"}),
    ("MCP request", RESOURCE_REQUESTS, {"result": "allowed"}),
)
_OF_ALL: Mapping[str, Mapping[str, str]] = {
    "exchange of a code": {"grant_type": "authorization_code"},
    "refresh": {"grant_type": "refresh_token"},
}
_TO_DO = {
    Cause.CLIENT: "The client sent something that it must not send: its developer has to act.",
    Cause.USER: "Nothing: the user gave up, took too long or may not come in.",
    Cause.IDP: "Look at the state of the identity provider; `seed-oauth doctor` checks the way to it.",
    Cause.SERVER: "The log line with this `outcome` says why; `seed-oauth doctor` checks the settings.",
}
"""What to do about errors without an advice of their own."""

_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")

_OF_LOGINS = (Step.REQUESTED, Step.EXCHANGED, Step.REFRESHED)
_LOGIN_ENDPOINTS = [
    ENDPOINTS[outcomes] for outcomes in (AuthorizationOutcome, ConsentOutcome, CallbackOutcome, TokenOutcome)
]

_FAULTY = 0.05  # share of logins or requests
_SUSPICIOUS = 0.01
# As the alert OAuthTokensNeverUsed has it.
_HARDLY_USED = 0.1
_FEW = 5


def point(increase: Samples, seconds: float, at: float) -> Point:
    """The charts' values for one interval of `seconds` that ended `at`."""
    minutes = seconds / 60
    counts = [
        *(increase.total(FLOW_STEPS.name, step=step) for step in (Step.REQUESTED, Step.EXCHANGED)),
        *(_failed(increase, cause=cause) for cause in Cause),
    ]
    return [
        round(at, 1),
        *(round(count / minutes, 2) for count in counts),
        *_quantiles(increase, TOKEN_EXCHANGE_DURATION),
        *_quantiles(increase, AUTHORIZATION_WAIT),
    ]


def period(increase: Samples, seconds: float, now: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a period that lasted `seconds`; `now` is the `state`."""
    steps = {step: increase.total(FLOW_STEPS.name, step=step) for step in Step}
    with_uses = sees_uses(increase)
    before = _before(steps, with_uses=with_uses)
    return {
        "seconds": round(seconds),
        "verdict": verdict(increase, now),
        "loss": _loss(steps, before),
        "steps": [
            {
                "step": step.value,
                "count": count,
                "of": steps[before[step]] if step in before else None,
                "aside": step in ASIDE,
            }
            for step, count in steps.items()
        ],
        "families": [
            {"family": family, "requested": requested, "exchanged": exchanged}
            | {"used": _steps(increase, Step.USED, family) if with_uses else None}
            for family in ClientFamily
            if (requested := _steps(increase, Step.REQUESTED, family))
            | (exchanged := _steps(increase, Step.EXCHANGED, family))
        ],
        "successes": [_success(increase, *row) for row in _SUCCESSES],
        "exchange": _quantiles(increase, TOKEN_EXCHANGE_DURATION),
        "wait": _quantiles(increase, AUTHORIZATION_WAIT),
        "idp": _idp(increase),
        "errors": _errors(increase),
    }


def state(samples: Samples) -> dict[str, Any]:
    """What is true now: worker processes, and the checks of the readiness."""
    workers = samples.by(WORKER_UP.name, "worker")
    checks = samples.by(READY.name, "check")
    return {
        "workers": [{"worker": worker, "up": bool(up)} for (worker,), up in sorted(workers.items())],
        "checks": [{"check": check, "passed": bool(passed)} for (check,), passed in sorted(checks.items())],
    }


def verdict(increase: Samples, now: Mapping[str, Any]) -> dict[str, str]:
    """Whether all is well, in one sentence: `level` is good, warning, bad or idle."""
    down = [worker["worker"] for worker in now["workers"] if not worker["up"]]
    failing = [check["check"].replace("_", " ") for check in now["checks"] if not check["passed"]]
    if down:
        return _said("bad", f"Worker {', '.join(down)} does not respond.")
    if failing:
        return _said("bad", f"Not ready: {', '.join(failing)}. The log and `seed-oauth doctor` say why.")
    logins, *wrong = filter(None, [_of_logins(increase), _of_uses(increase), _of_requests(increase)])
    if not wrong:
        return logins
    level = "bad" if "bad" in {it["level"] for it in (logins, *wrong)} else "warning"
    return _said(level, " ".join(it["text"] for it in (logins, *wrong)))


def _of_logins(increase: Samples) -> dict[str, str]:
    requested, completed, refreshed = (int(increase.total(FLOW_STEPS.name, step=step)) for step in _OF_LOGINS)
    ours = {cause: _failures(increase, cause, _LOGIN_ENDPOINTS) for cause in (Cause.IDP, Cause.SERVER)}
    failures = sum(ours.values())
    if level := _level(failures, failures + completed + refreshed):
        names = {Cause.IDP: "the identity provider", Cause.SERVER: "this server"}
        because = " and ".join(f"{count:,} because of {names[cause]}" for cause, count in ours.items() if count)
        return _said(level, f"Logins fail: {because}. {completed:,} got tokens.")
    if completed:
        return _said("good", f"Logins work: {completed:,} got tokens.")
    failed = int(_failed(increase))
    nobody = f"No login was completed; requests that failed: {failed:,}." if failed else "No login was completed."
    if requested:
        return _said("warning", nobody)
    if refreshed:
        return _said("good", f"Refreshes work: {refreshed:,}.")
    return _said("idle", nobody if failed else "No logins.")


def _of_uses(increase: Samples) -> dict[str, str] | None:
    """Which clients are connected and do nothing, if any are and their use is seen here."""
    unused = [
        f"{family} used {used:,} of {exchanged:,}"
        for family in ClientFamily
        if (exchanged := _steps(increase, Step.EXCHANGED, family)) >= _FEW
        and (used := _steps(increase, Step.USED, family)) < _HARDLY_USED * exchanged
    ]
    if not unused or not sees_uses(increase):
        return None
    do = "`seed-oauth doctor --alert OAuthTokensNeverUsed` says what to do."
    return _said("warning", f"Clients do not use them: {', '.join(unused)}. {do}")


def _of_requests(increase: Samples) -> dict[str, str] | None:
    """What is wrong with requests to the MCP server, if anything is."""
    failures = sum(_failures(increase, cause, [ENDPOINTS[ResourceOutcome]]) for cause in (Cause.IDP, Cause.SERVER))
    requests = failures + int(increase.total(RESOURCE_REQUESTS.name, result=ResourceResult.ALLOWED))
    level = _level(failures, requests)
    return _said(level, f"Requests to the MCP server fail: {failures:,} of {requests:,}.") if level else None


def _level(failures: int, attempts: int) -> str | None:
    if not attempts or failures / attempts < _SUSPICIOUS:
        return None
    return "bad" if failures / attempts >= _FAULTY else "warning"


def _said(level: str, text: str) -> dict[str, str]:
    return {"level": level, "text": text}


def _before(steps: Mapping[Step, float], *, with_uses: bool) -> dict[Step, Step]:
    """For each step that every login takes the one before; `with_uses` tells whether their use is seen here."""
    way = [step for step in ON_THE_WAY if with_uses or step is not Step.USED]
    # A step that a later one makes up for is not in this flow, as the return in the relay flow.
    taken = [step for at, step in enumerate(way) if steps[step] or not any(steps[later] for later in way[at:])]
    return {after: before for before, after in pairwise(taken)}


def _loss(steps: Mapping[Step, float], before: Mapping[Step, Step]) -> dict[str, Any] | None:
    """Between which two steps most logins were lost, if any were."""
    losses = [(steps[first] - steps[after], first, after) for after, first in before.items()]
    lost, first, after = max(losses, key=itemgetter(0), default=(0, Step.REQUESTED, Step.REQUESTED))
    return {"from": first.value, "to": after.value, "lost": lost, "of": steps[first]} if lost > 0 else None


def _failed(increase: Samples, **labels: str) -> float:
    return increase.total(ERRORS.name, **labels) - increase.total(ERRORS.name, reason=BEGINNING, **labels)


def _failures(increase: Samples, cause: Cause, endpoints: Iterable[str]) -> int:
    return int(sum(_failed(increase, cause=cause, endpoint=endpoint) for endpoint in endpoints))


def _steps(increase: Samples, step: Step, family: ClientFamily) -> int:
    return int(increase.total(FLOW_STEPS.name, step=step, client_family=family))


def _success(increase: Samples, name: str, series: Series, good: Mapping[str, str]) -> dict[str, Any]:
    whole = _OF_ALL.get(name, {})
    # Every login begins with a challenge: neither good nor bad.
    challenged = increase.total(series.name, result=ResourceResult.CHALLENGED)
    return {
        "name": name,
        "good": increase.total(series.name, **whole, **good),
        "all": increase.total(series.name, **whole) - challenged,
    }


def _quantiles(increase: Samples, series: Series) -> list[float | None]:
    histogram = increase.histogram(series.name)
    return [None if (value := histogram.quantile(q)) is None else round(value, 3) for q in QUANTILES]


def _idp(increase: Samples) -> list[dict[str, Any]]:
    counts = increase.by(IDP_REQUESTS.name, "operation", "outcome")
    return [
        {"operation": operation, "outcome": outcome, "count": count}
        for (operation, outcome), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count
    ]


def _errors(increase: Samples) -> list[dict[str, Any]]:
    """The most frequent reasons; those for which the operator has to act come first."""
    counts = increase.by(ERRORS.name, *ERRORS.labels)
    ranked = sorted(
        (labels for labels, count in counts.items() if count and labels[1] != BEGINNING),
        key=lambda labels: (labels[2] not in {Cause.IDP, Cause.SERVER}, -counts[labels], labels),
    )
    return [
        {"endpoint": endpoint, "reason": reason, "cause": cause, "count": counts[endpoint, reason, cause]}
        | _ADVICE[endpoint, reason]
        for endpoint, reason, cause in ranked[:MOST_ERRORS]
    ]


def _advice(outcome: Outcome, cause: Cause) -> dict[str, str]:
    if outcome not in REMEDIES:
        return {"why": "", "remedy": _TO_DO[cause]}
    remedy = REMEDIES[outcome]
    return {"why": remedy.cause, "remedy": _LINK.sub(r"\1", remedy.remedy)}


_ADVICE = {
    (endpoint, outcome.reason): _advice(outcome, outcome.cause)
    for outcomes, endpoint in ENDPOINTS.items()
    for outcome in outcomes
    if outcome.cause is not None
}
