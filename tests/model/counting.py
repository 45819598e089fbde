"""What the counters have to say after requests that ended in certain rows: the contract once more, from the README."""

from collections import Counter

from seed_oauth import Pipeline
from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    Outcome,
    RegistrationOutcome,
    TokenOutcome,
)
from seed_oauth.telemetry.contract import error_attributes
from tests.model.model import Predicted

Counts = Counter[tuple[str, frozenset[tuple[str, str]]]]

_OWN = {
    AuthorizationOutcome: "oauth_authorization_requests_total",
    ConsentOutcome: "oauth_authorization_requests_total",
    CallbackOutcome: "oauth_callbacks_total",
    RegistrationOutcome: "oauth_dcr_registrations_total",
}
_DECISIONS: dict[Outcome, str] = {
    ConsentOutcome.APPROVED: "approved",
    ConsentOutcome.APPROVED_AFTER_LOGIN: "approved",
    ConsentOutcome.DENIED: "denied",
    ConsentOutcome.DENIED_AFTER_LOGIN: "denied",
}
_STEPS: dict[Outcome, tuple[str, ...]] = {
    AuthorizationOutcome.REDIRECTED_TO_IDP: ("redirected",),
    ConsentOutcome.APPROVED: ("consented", "redirected"),
    ConsentOutcome.APPROVED_AFTER_LOGIN: ("consented",),
    CallbackOutcome.CONSENT_ASKED: ("returned",),
    CallbackOutcome.RETURNED: ("returned",),
    TokenOutcome.EXCHANGED: ("exchanged",),
    TokenOutcome.REFRESHED: ("refreshed",),
    RegistrationOutcome.REGISTERED: ("registered",),
}


def counts_of(predicted: Predicted) -> Counts:
    """By how much each counter grows by one request."""
    row, counts = predicted.row, Counts()

    def count(name: str, **labels: str) -> None:
        counts[name, frozenset(labels.items())] += 1

    if row.result is not None:
        count(_OWN[type(row)], result=row.result)
    if row.cause is not None:
        count("oauth_errors_total", **error_attributes(row))
        count("oauth_client_errors_total", client_family="other", endpoint=error_attributes(row)["endpoint"])
    if row in _DECISIONS:
        count("oauth_consent_decisions_total", decision=_DECISIONS[row])
    if isinstance(row, AuthorizationOutcome):
        count("oauth_flow_steps_total", step="requested", client_family="other")
    for step in _STEPS.get(row, ()):
        count("oauth_flow_steps_total", step=step, client_family="other")
    if row in {CallbackOutcome.CONSENT_ASKED, CallbackOutcome.RETURNED, CallbackOutcome.SIGNED_IN}:
        count("oauth_authorization_wait_seconds_count")
    if predicted.exchange is not None:
        grant_type, succeeded = predicted.exchange
        result, outcome = ("success", "ok") if succeeded else ("failure", "http_4xx")
        count("oauth_token_exchanges_total", grant_type=grant_type, result=result)
        count("oauth_token_exchange_duration_seconds_count", grant_type=grant_type)
        count("oauth_idp_requests_total", operation="token", outcome=outcome)
        count("oauth_idp_request_duration_seconds_count", operation="token", outcome=outcome)
    for operation in ["userinfo"] * predicted.looks_up + ["revocation"] * predicted.revokes:
        count("oauth_idp_requests_total", operation=operation, outcome="ok")
        count("oauth_idp_request_duration_seconds_count", operation=operation, outcome="ok")
    return counts


def counted(pipeline: Pipeline) -> Counts:
    """What has been counted since the start, read from the registry that a scrape reads."""
    return Counts(
        {
            (sample.name, frozenset(sample.labels.items())): int(sample.value)
            for family in pipeline.registry.collect()
            for sample in family.samples
            if sample.name.startswith("oauth_") and sample.name.endswith(("_total", "_count")) and sample.value
        }
    )
