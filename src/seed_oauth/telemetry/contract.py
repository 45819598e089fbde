"""The metrics contract as data: every series of seed_oauth with its labels, unit, help text and buckets.

Instruments, Views and initial zeros are created from this table, and the documentation is checked against it.
Names include suffix and unit, so that the Prometheus exporter and every OTLP to Prometheus translation produce the
same name. Label sets are closed: no value from a client becomes a label.
"""

from collections.abc import Mapping
from enum import StrEnum

from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    Check,
    ClientFamily,
    ConsentOutcome,
    GrantType,
    IntrospectionOutcome,
    LogoutOutcome,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.telemetry.client_documents import DOCUMENT_REQUEST_DURATION, DOCUMENT_REQUESTS
from seed_oauth.telemetry.gauges import GAUGES
from seed_oauth.telemetry.push import VERSION
from seed_oauth.telemetry.series import Attributes, Kind, Series, label_sets
from seed_oauth.telemetry.steps import Step


class ExchangeResult(StrEnum):
    """Label `result` of `oauth_token_exchanges_total`: success is HTTP 200 with a token from the IdP."""

    SUCCESS = "success"
    FAILURE = "failure"


class Operation(StrEnum):
    """Label `operation` of the `oauth_idp_*` series: the purpose of a request to the identity provider."""

    TOKEN = "token"  # noqa: S105 - the name of an operation
    REVOCATION = "revocation"
    JWKS = "jwks"
    DISCOVERY = "discovery"
    INTROSPECTION = "introspection"
    USERINFO = "userinfo"
    """Who a user is: userinfo, or GitHub's API."""


class IdpOutcome(StrEnum):
    """Label `outcome` of the `oauth_idp_*` series: the outcome of a request to the identity provider."""

    OK = "ok"
    """A valid response."""
    HTTP_4XX = "http_4xx"
    """An error: status 4xx, or status 200 with an `error` in the body, as from GitHub."""
    HTTP_5XX = "http_5xx"
    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    """No response: connection refused or broken, name not resolved, or TLS failure."""
    INVALID_RESPONSE = "invalid_response"
    """An unusable response: not JSON, too large, a redirect, or without a token."""
    CANCELLED = "cancelled"


class Decision(StrEnum):
    """Label `decision` of `oauth_consent_decisions_total`."""

    APPROVED = "approved"
    DENIED = "denied"


class Refusal(StrEnum):
    """Label `reason` of `seed_oauth_refused_requests_total`."""

    BAD_REQUEST = "bad_request"
    """Not HTTP."""
    HEAD_TOO_LARGE = "head_too_large"
    TIMEOUT = "timeout"
    """The client was too slow."""
    NOT_IMPLEMENTED = "not_implemented"
    """CONNECT."""
    FULL = "full"
    """Too many connections."""


class ResourceResult(StrEnum):
    """Label `result` of `oauth_resource_requests_total`."""

    ALLOWED = "allowed"
    CHALLENGED = "challenged"
    """Sent no token, as at the beginning of every login, and learned where to get one."""
    REFUSED = "refused"
    """Not answered by the MCP server; `oauth_errors_total` has the reason."""


DECISIONS: Mapping[Outcome, Decision] = {
    ConsentOutcome.APPROVED: Decision.APPROVED,
    ConsentOutcome.APPROVED_AFTER_LOGIN: Decision.APPROVED,
    ConsentOutcome.DENIED: Decision.DENIED,
    ConsentOutcome.DENIED_AFTER_LOGIN: Decision.DENIED,
}
"""The consent decision that is counted for an outcome."""

RESOURCE_RESULTS: Mapping[Outcome, ResourceResult] = {
    **dict.fromkeys(ResourceOutcome, ResourceResult.REFUSED),
    ResourceOutcome.NO_TOKEN: ResourceResult.CHALLENGED,
    ResourceOutcome.ALLOWED: ResourceResult.ALLOWED,
}
"""The result that is counted for a request to the protected resource."""

ENDPOINTS: Mapping[type[Outcome], str] = {
    AuthorizationOutcome: "authorize",
    ConsentOutcome: "consent",
    CallbackOutcome: "callback",
    AccountOutcome: "account",
    TokenOutcome: "token",
    RegistrationOutcome: "register",
    RevocationOutcome: "revoke",
    IntrospectionOutcome: "introspect",
    LogoutOutcome: "backchannel-logout",
    ResourceOutcome: "resource",
}
"""The value of the label `endpoint` for each table of outcomes."""


def error_attributes(outcome: Outcome) -> Attributes:
    """The labels of `oauth_errors_total` for an outcome that is not a success."""
    assert outcome.cause is not None  # noqa: S101 - the callers filter out successes
    return {"endpoint": ENDPOINTS[type(outcome)], "reason": outcome.reason, "cause": outcome.cause.value}


def _results(outcomes: type[Outcome]) -> list[str]:
    return sorted({outcome.result for outcome in outcomes if outcome.result})


AUTHORIZATION_REQUESTS = Series(
    name="oauth_authorization_requests_total",
    help="Total OAuth authorization requests",
    labels=("result",),
    known=label_sets(result=_results(AuthorizationOutcome)),
)
TOKEN_EXCHANGES = Series(
    name="oauth_token_exchanges_total",
    help="Total OAuth token exchanges",
    labels=("grant_type", "result"),
    known=label_sets(grant_type=GrantType, result=ExchangeResult),
)
TOKEN_EXCHANGE_DURATION = Series(
    name="oauth_token_exchange_duration_seconds",
    help="Duration of token exchanges with IdP",
    labels=("grant_type",),
    known=label_sets(grant_type=GrantType),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(0.1, 0.5, 1.0, 2.0, 5.0),
)
DCR_REGISTRATIONS = Series(
    name="oauth_dcr_registrations_total",
    help="Total OAuth dynamic client registrations",
    labels=("result",),
    known=label_sets(result=_results(RegistrationOutcome)),
)
ERRORS = Series(
    name="oauth_errors_total",
    help="Failed requests, by endpoint, reason and cause",
    labels=("endpoint", "reason", "cause"),
    known=tuple(
        error_attributes(outcome) for outcomes in ENDPOINTS for outcome in outcomes if outcome.cause is not None
    ),
)
CLIENT_ERRORS = Series(
    name="oauth_client_errors_total",
    help="Failed requests that had a token or needed none, by client family and endpoint",
    labels=("client_family", "endpoint"),
    known=label_sets(client_family=ClientFamily, endpoint=ENDPOINTS.values()),
)
IDP_REQUESTS = Series(
    name="oauth_idp_requests_total",
    help="Requests to the identity provider, by operation and outcome",
    labels=("operation", "outcome"),
    known=label_sets(operation=Operation, outcome=IdpOutcome),
)
IDP_REQUEST_DURATION = Series(
    name="oauth_idp_request_duration_seconds",
    help="Duration of requests to the identity provider, by operation and outcome",
    labels=("operation", "outcome"),
    known=label_sets(operation=Operation, outcome=IdpOutcome),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

CONSENT_DECISIONS = Series(
    name="oauth_consent_decisions_total",
    help="Decisions on the consent page",
    labels=("decision",),
    known=label_sets(decision=Decision),
)
CALLBACKS = Series(
    name="oauth_callbacks_total",
    help="Returns from the identity provider, by result",
    labels=("result",),
    known=label_sets(result=_results(CallbackOutcome)),
)
AUTHORIZATION_WAIT = Series(
    name="oauth_authorization_wait_seconds",
    help="Time that users spent at the identity provider, from the redirect to the callback",
    labels=(),
    known=({},),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
FLOW_STEPS = Series(
    name="oauth_flow_steps_total",
    help="Completed steps of the login flow, by client family",
    labels=("step", "client_family"),
    known=label_sets(step=Step, client_family=ClientFamily),
)
RESOURCE_REQUESTS = Series(
    name="oauth_resource_requests_total",
    help="Requests to the protected resource, by result",
    labels=("result",),
    known=label_sets(result=ResourceResult),
    from_settings=("resource",),
)
WORKER_UP = Series(
    name="seed_oauth_worker_up",
    help="Whether a worker process reported within the last seconds",
    labels=("worker",),
    known=label_sets(worker=["0"]),
    kind=Kind.GAUGE,
)

READY = Series(
    name="seed_oauth_ready",
    help="Whether a check of the readiness passed when it was made last, once a minute",
    labels=("check",),
    known=label_sets(check=Check),
    kind=Kind.GAUGE,
)

BUILD_INFO = Series(
    name="seed_oauth_build_info",
    help="The version of this server; the value is always 1",
    labels=("version",),
    known=label_sets(version=[VERSION]),
    kind=Kind.GAUGE,
)
WORKER_RESTARTS = Series(
    name="seed_oauth_worker_restarts_total",
    help="Worker processes that ended unasked, and were started again",
    labels=(),
    known=({},),
)
REFUSED_REQUESTS = Series(
    name="seed_oauth_refused_requests_total",
    help="Requests that no endpoint has seen, by the reason for which the listener refused them",
    labels=("reason",),
    known=label_sets(reason=Refusal),
)

CONTRACT: tuple[Series, ...] = (
    AUTHORIZATION_REQUESTS,
    TOKEN_EXCHANGES,
    TOKEN_EXCHANGE_DURATION,
    DCR_REGISTRATIONS,
    ERRORS,
    CLIENT_ERRORS,
    IDP_REQUESTS,
    IDP_REQUEST_DURATION,
    DOCUMENT_REQUESTS,
    DOCUMENT_REQUEST_DURATION,
    CONSENT_DECISIONS,
    CALLBACKS,
    AUTHORIZATION_WAIT,
    FLOW_STEPS,
    RESOURCE_REQUESTS,
    WORKER_UP,
    READY,
    BUILD_INFO,
    WORKER_RESTARTS,
    REFUSED_REQUESTS,
    *(gauge.series for gauge in GAUGES),
)
