"""The metrics contract as data: every series that is ours, with its labels, unit, help and buckets.

Instruments, Views and zero-initialisation are built from this table, and the documentation is checked
against it. The names are literal, suffix and unit included: so the Prometheus exporter and every OTLP →
Prometheus translation give the same name. Label sets are closed: nothing a client sends becomes a label.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    ClientFamily,
    ConsentOutcome,
    GrantType,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)


class ExchangeResult(StrEnum):
    """Label `result` of `oauth_token_exchanges_total`: success is HTTP 200 with a token from the IdP."""

    SUCCESS = "success"
    FAILURE = "failure"


class Operation(StrEnum):
    """Label `operation` of the `oauth_idp_*` series: what the request to the identity provider was for."""

    TOKEN = "token"  # noqa: S105 - the name of an operation
    REVOCATION = "revocation"
    JWKS = "jwks"
    DISCOVERY = "discovery"
    INTROSPECTION = "introspection"


class IdpOutcome(StrEnum):
    """Label `outcome` of the `oauth_idp_*` series: how one request to the identity provider ended."""

    OK = "ok"
    """The answer that was asked for."""
    HTTP_4XX = "http_4xx"
    """A refusal: status 4xx, or 200 with an `error` in the body as GitHub answers."""
    HTTP_5XX = "http_5xx"
    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    """No answer: refused, unresolvable, TLS failure, or the connection broke."""
    INVALID_RESPONSE = "invalid_response"
    """An answer that is none: no JSON, too large, a redirect, no token."""
    CANCELLED = "cancelled"


class Decision(StrEnum):
    """Label `decision` of `oauth_consent_decisions_total`."""

    APPROVED = "approved"
    DENIED = "denied"


class Step(StrEnum):
    """Label `step` of `oauth_flow_steps_total`: how far clients get."""

    REGISTERED = "registered"
    REQUESTED = "requested"
    """Asked for authorization, whatever came of it."""
    REDIRECTED = "redirected"
    """Sent to the identity provider."""
    RETURNED = "returned"
    """Came back from it with a code; broker flow only, because in the relay flow it answers the client."""
    EXCHANGED = "exchanged"
    """Got tokens for a code: somebody has logged in."""
    REFRESHED = "refreshed"
    """Got tokens for a refresh token: somebody is still logged in."""


STEPS: Mapping[Outcome, tuple[Step, ...]] = {
    **dict.fromkeys(AuthorizationOutcome, (Step.REQUESTED,)),
    AuthorizationOutcome.REDIRECTED_TO_IDP: (Step.REQUESTED, Step.REDIRECTED),
    ConsentOutcome.APPROVED: (Step.REDIRECTED,),
    CallbackOutcome.RETURNED: (Step.RETURNED,),
    TokenOutcome.EXCHANGED: (Step.EXCHANGED,),
    TokenOutcome.REFRESHED: (Step.REFRESHED,),
    RegistrationOutcome.REGISTERED: (Step.REGISTERED,),
}
"""The steps that a request has taken when it ends in a row."""

DECISIONS: Mapping[Outcome, Decision] = {
    ConsentOutcome.APPROVED: Decision.APPROVED,
    ConsentOutcome.DENIED: Decision.DENIED,
}
"""What was decided when a request ends in a row."""

ENDPOINTS: Mapping[type[Outcome], str] = {
    AuthorizationOutcome: "authorize",
    ConsentOutcome: "consent",
    CallbackOutcome: "callback",
    TokenOutcome: "token",
    RegistrationOutcome: "register",
    RevocationOutcome: "revoke",
    ResourceOutcome: "resource",
}
"""Each table of outcomes and the label `endpoint` it stands for."""

Attributes = Mapping[str, str]
"""Labels as they are recorded: plain strings, because the SDK keeps a StrEnum member apart from its value."""


class Kind(StrEnum):
    """The type of a metric, as Prometheus calls it."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One metric."""

    name: str
    help: str
    labels: tuple[str, ...]
    known: tuple[Attributes, ...]
    """Every label set it can have; counters show all of them at 0 from the start."""
    kind: Kind = Kind.COUNTER
    unit: str = ""
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, in `unit`."""


def error_attributes(outcome: Outcome) -> Attributes:
    """The labels of `oauth_errors_total` for a row that is not a success."""
    assert outcome.cause is not None  # noqa: S101 - success rows are filtered out by the callers
    return {"endpoint": ENDPOINTS[type(outcome)], "reason": outcome.reason, "cause": outcome.cause.value}


def _label_sets(**labels: Iterable[str]) -> tuple[Attributes, ...]:
    return tuple(dict(zip(labels, map(str, values), strict=True)) for values in product(*labels.values()))


def _results(outcomes: type[Outcome]) -> list[str]:
    return sorted({outcome.result for outcome in outcomes if outcome.result})


AUTHORIZATION_REQUESTS = Series(
    name="oauth_authorization_requests_total",
    help="Total OAuth authorization requests",
    labels=("result",),
    known=_label_sets(result=_results(AuthorizationOutcome)),
)
TOKEN_EXCHANGES = Series(
    name="oauth_token_exchanges_total",
    help="Total OAuth token exchanges",
    labels=("grant_type", "result"),
    known=_label_sets(grant_type=GrantType, result=ExchangeResult),
)
TOKEN_EXCHANGE_DURATION = Series(
    name="oauth_token_exchange_duration_seconds",
    help="Duration of token exchanges with IdP",
    labels=("grant_type",),
    known=_label_sets(grant_type=GrantType),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(0.1, 0.5, 1.0, 2.0, 5.0),
)
DCR_REGISTRATIONS = Series(
    name="oauth_dcr_registrations_total",
    help="Total OAuth dynamic client registrations",
    labels=("result",),
    known=_label_sets(result=_results(RegistrationOutcome)),
)
ERRORS = Series(
    name="oauth_errors_total",
    help="Requests that did not succeed, by endpoint, row of the outcome table and who has to act",
    labels=("endpoint", "reason", "cause"),
    known=tuple(
        error_attributes(outcome) for outcomes in ENDPOINTS for outcome in outcomes if outcome.cause is not None
    ),
)
IDP_REQUESTS = Series(
    name="oauth_idp_requests_total",
    help="Requests to the identity provider, by operation and how they ended",
    labels=("operation", "outcome"),
    known=_label_sets(operation=Operation, outcome=IdpOutcome),
)
IDP_REQUEST_DURATION = Series(
    name="oauth_idp_request_duration_seconds",
    help="Duration of requests to the identity provider, by operation and how they ended",
    labels=("operation", "outcome"),
    known=_label_sets(operation=Operation, outcome=IdpOutcome),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

CONSENT_DECISIONS = Series(
    name="oauth_consent_decisions_total",
    help="What people decided when they were asked for consent",
    labels=("decision",),
    known=_label_sets(decision=Decision),
)
CALLBACKS = Series(
    name="oauth_callbacks_total",
    help="Returns from the identity provider, by result",
    labels=("result",),
    known=_label_sets(result=_results(CallbackOutcome)),
)
AUTHORIZATION_WAIT = Series(
    name="oauth_authorization_wait_seconds",
    help="Time that people spent at the identity provider, from the redirect to the callback",
    labels=(),
    known=({},),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
FLOW_STEPS = Series(
    name="oauth_flow_steps_total",
    help="Steps of the login flow that clients have taken, by family of clients",
    labels=("step", "client_family"),
    known=_label_sets(step=Step, client_family=ClientFamily),
)
WORKER_UP = Series(
    name="seed_oauth_worker_up",
    help="Whether a worker process gave a sign of life within the last seconds",
    labels=("worker",),
    known=_label_sets(worker=["0"]),
    kind=Kind.GAUGE,
)

CONTRACT: tuple[Series, ...] = (
    AUTHORIZATION_REQUESTS,
    TOKEN_EXCHANGES,
    TOKEN_EXCHANGE_DURATION,
    DCR_REGISTRATIONS,
    ERRORS,
    IDP_REQUESTS,
    IDP_REQUEST_DURATION,
    CONSENT_DECISIONS,
    CALLBACKS,
    AUTHORIZATION_WAIT,
    FLOW_STEPS,
    WORKER_UP,
)
