"""What the lines of a login say, in plain words: each step, where it ended, and who has to act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from seed_oauth.cli.explain.log import Line
from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    Cause,
    ConsentOutcome,
    Outcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.outcomes.remedies import REMEDIES, Remedy
from seed_oauth.telemetry.contract import ENDPOINTS

_STEPS: Mapping[Outcome, str] = {
    AuthorizationOutcome.CONSENT_ASKED: "The client asked for a login. The user was shown the consent page.",
    AuthorizationOutcome.REDIRECTED_TO_IDP: "The client asked for a login. The browser went to the identity provider.",
    ConsentOutcome.APPROVED: "The user approved. The browser went to the identity provider.",
    ConsentOutcome.APPROVED_AFTER_LOGIN: "The user approved. The client was sent a code.",
    CallbackOutcome.RETURNED: "The user logged in at the identity provider. The client was sent a code.",
    CallbackOutcome.CONSENT_ASKED: "The user logged in at the identity provider, and was shown the consent page.",
    TokenOutcome.EXCHANGED: "The client exchanged its code for tokens.",
    TokenOutcome.REFRESHED: "The client refreshed its tokens.",
    ResourceOutcome.ALLOWED: "A request to the MCP server was allowed.",
    RevocationOutcome.REVOKED: "The client gave its access back.",
}

_NO_ANSWER = (
    "No answer of the identity provider has arrived here: the user has left or is shown an error there, or the "
    "redirect URI of this server is not registered there. In the relay flow the answer goes to the client."
)
_CODE_UNUSED = "The client has not redeemed its code: the browser could not open it, or the client has failed."
_DONE = "The login is complete, and the client uses its tokens."

_ENDINGS: Mapping[Outcome, str] = {
    AuthorizationOutcome.CONSENT_ASKED: "The user has not answered the consent page.",
    AuthorizationOutcome.REDIRECTED_TO_IDP: _NO_ANSWER,
    ConsentOutcome.APPROVED: _NO_ANSWER,
    ConsentOutcome.APPROVED_AFTER_LOGIN: _CODE_UNUSED,
    CallbackOutcome.RETURNED: _CODE_UNUSED,
    CallbackOutcome.CONSENT_ASKED: "The user has logged in, and has not answered the consent page.",
    TokenOutcome.EXCHANGED: "The client has its tokens, and no request with them is in this log: it may look connected "
    "and do nothing. `seed-oauth doctor --alert OAuthTokensNeverUsed` says what to do. Such requests are known here if "
    "the tokens are this server's own (SEED_OAUTH_ACCESS_TOKENS=own) and the requests come through it.",
    TokenOutcome.REFRESHED: _DONE,
    ResourceOutcome.ALLOWED: _DONE,
    RevocationOutcome.REVOKED: "The client has no access any more, because it gave it back.",
}
"""What is the case if this was the last thing that happened."""

_FAILED: Mapping[str, str] = {
    "authorize": "The client asked for a login",
    "consent": "The user answered the consent page",
    "callback": "The browser came back from the identity provider",
    "token": "The client asked for tokens",
    "revoke": "The client wanted to give its access back",
    "resource": "The client used its access token",
}

_WHO: Mapping[Cause, str] = {
    Cause.CLIENT: "The client: connect again in it, and tell its author if that does not help.",
    Cause.USER: "The user: connect again in the client.",
    Cause.IDP: "The identity provider, or the way to it.",
    Cause.SERVER: "You, the operator of this server.",
}

_OUTCOMES: Mapping[tuple[str, str], Outcome] = {
    (endpoint, outcome.reason): outcome for outcomes, endpoint in ENDPOINTS.items() for outcome in outcomes
}

_OF_THE_IDP = {"idp_status": "status", "idp_error": "error", "idp_said": "description"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request of a login, or several equal ones in a row."""

    at: datetime
    text: str
    failed: bool = False
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Story:
    """A login."""

    flow_id: str | None
    client_id: str | None
    steps: Sequence[Step]
    ending: str
    who: str | None
    """Who has to act; None if nobody has to."""
    remedy: Remedy | None
    heading: str | None
    """Where it ended, as the documentation calls it; None if nothing failed."""


def tell(lines: Sequence[Line]) -> Story:
    """The story in these lines of the log: at least one, oldest first."""
    last = _outcome(lines[-1])
    cause = None if last is None else last.cause
    return Story(
        flow_id=_first(lines, "flow_id"),
        client_id=_first(lines, "client_id"),
        steps=_steps(lines),
        ending=_ending(lines[-1], last),
        who=None if cause is None else _WHO[cause],
        remedy=None if last is None else REMEDIES.get(last),
        heading=None if cause is None else f"{lines[-1]['endpoint']}: {lines[-1]['outcome']}",
    )


def _outcome(line: Line) -> Outcome | None:
    """Its row; None if it is of a version that has other rows."""
    return _OUTCOMES.get((line["endpoint"], line["outcome"]))


def _first(lines: Sequence[Line], name: str) -> str | None:
    return next((str(line[name]) for line in lines if line.get(name)), None)


def _steps(lines: Sequence[Line]) -> Sequence[Step]:
    steps: list[Step] = []
    for line in lines:
        step = _step(line)
        if steps and (steps[-1].text, steps[-1].failed) == (step.text, step.failed):
            steps[-1] = Step(at=steps[-1].at, text=step.text, failed=step.failed, times=steps[-1].times + 1)
        else:
            steps.append(step)
    return steps


def _step(line: Line) -> Step:
    at = datetime.fromisoformat(line["timestamp"])
    outcome = _outcome(line)
    if outcome is not None and outcome.cause is None:
        return Step(at=at, text=_STEPS.get(outcome, f"{line['endpoint']}: {outcome.reason}"))
    what = _FAILED.get(line["endpoint"], line["endpoint"])
    return Step(at=at, text=f"{what}, and was answered: {_detail(line)}.", failed=True)


def _detail(line: Line) -> str:
    said = [f"{word} {line[name]}" for name, word in _OF_THE_IDP.items() if line.get(name)]
    answer = f" (the identity provider had sent {', '.join(said)})" if said else ""
    return f"{line.get('detail') or line['outcome']}{answer}"


def _ending(line: Line, outcome: Outcome | None) -> str:
    if outcome is not None and outcome.cause is None:
        return _ENDINGS.get(outcome, "Nothing has failed.")
    return f"It ended there: {line['outcome']}."
