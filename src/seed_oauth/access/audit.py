"""The catalogue of the audit trail: which ends of a request are recorded, as which event, in which fields.

The names of the fields are those of the Elastic Common Schema (ECS) 8. OpenTelemetry's semantic conventions are merged
with it, a record stays a flat JSON object, and Elastic, Loki, Splunk and the Collector read it without a mapping. OCSF
would need a class with numeric identifiers for each event. What ECS has no name for is below `oauth.`.
"""

from collections.abc import Iterable, Mapping
from enum import Enum

from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    IntrospectionOutcome,
    LogoutOutcome,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)

ECS_VERSION = "8.17"


class Event(Enum):
    """What happened: the `event.action`, with its `event.category`, `event.type` and meaning."""

    CLIENT_REGISTERED = "iam", "creation", "A client registered itself."
    CLIENT_REVOKED = "iam", "deletion", "An operator revoked a client with its grants."
    CONSENT_GIVEN = "iam", "allowed", "A user allowed a client to act for them."
    CONSENT_DENIED = "iam", "denied", "A user did not allow it."
    GRANT_ISSUED = "authentication", "start", "A client received its first tokens."
    GRANT_REFUSED = "authentication", "denied", "A client received no tokens."
    GRANT_REFRESHED = "session", "info", "A client received new tokens for a refresh token."
    GRANT_REUSED = "session", "end", "A code or refresh token was used twice, and its grant was revoked."
    GRANT_REVOKED = "session", "end", "A client, a user, an operator or the identity provider ended grants."
    ACCESS_DENIED = "api", "denied", "A person, a client or an access token was refused."
    TOOL_CALL = "api", "access", "A tool was called."

    def __init__(self, category: str, type_: str, meaning: str) -> None:
        self.category = category
        self.type = type_
        self.meaning = meaning
        self.action = self.name.lower()


def _all(event: Event, *outcomes: Outcome) -> dict[Outcome, Event]:
    return dict.fromkeys(outcomes, event)


AUDITED: Mapping[Outcome, Event] = {
    RegistrationOutcome.REGISTERED: Event.CLIENT_REGISTERED,
    ConsentOutcome.APPROVED: Event.CONSENT_GIVEN,
    ConsentOutcome.APPROVED_AFTER_LOGIN: Event.CONSENT_GIVEN,
    ConsentOutcome.DENIED: Event.CONSENT_DENIED,
    ConsentOutcome.DENIED_AFTER_LOGIN: Event.CONSENT_DENIED,
    TokenOutcome.EXCHANGED: Event.GRANT_ISSUED,
    TokenOutcome.REFRESHED: Event.GRANT_REFRESHED,
    TokenOutcome.CODE_REUSED: Event.GRANT_REUSED,
    TokenOutcome.REFRESH_TOKEN_REUSED: Event.GRANT_REUSED,
    RevocationOutcome.REVOKED: Event.GRANT_REVOKED,
    LogoutOutcome.LOGGED_OUT: Event.GRANT_REVOKED,
    AccountOutcome.REVOKED: Event.GRANT_REVOKED,
    ResourceOutcome.ALLOWED: Event.TOOL_CALL,
    **_all(
        Event.GRANT_REFUSED,
        CallbackOutcome.DENIED,
        CallbackOutcome.IDP_INVALID_GRANT,
        CallbackOutcome.IDP_LOGIN_REQUIRED,
        CallbackOutcome.OTHER_BROWSER,
        ConsentOutcome.OTHER_BROWSER,
        TokenOutcome.UNKNOWN_CLIENT,
        TokenOutcome.BAD_CLIENT_DOCUMENT,
        TokenOutcome.BAD_CLIENT_AUTHENTICATION,
        TokenOutcome.UNREGISTERED_GRANT_TYPE,
        TokenOutcome.BAD_CODE_VERIFIER,
        TokenOutcome.BAD_REDIRECT_URI,
        TokenOutcome.BAD_CODE,
        TokenOutcome.BAD_REFRESH_TOKEN,
        TokenOutcome.LOGIN_EXPIRED,
        TokenOutcome.REFRESH_TOKEN_REVOKED,
        TokenOutcome.GRANT_REVOKED,
        TokenOutcome.IDP_INVALID_GRANT,
        TokenOutcome.IDP_LOGIN_REQUIRED,
        TokenOutcome.IDP_UNAUTHORIZED_CLIENT,
    ),
    **_all(
        Event.ACCESS_DENIED,
        CallbackOutcome.NOT_ALLOWED,
        TokenOutcome.NOT_ALLOWED,
        AccountOutcome.OTHER_BROWSER,
        AuthorizationOutcome.UNKNOWN_CLIENT,
        AuthorizationOutcome.BAD_CLIENT_DOCUMENT,
        AuthorizationOutcome.CLIENT_NOT_ALLOWED,
        RegistrationOutcome.CLOSED,
        RegistrationOutcome.BAD_INITIAL_ACCESS_TOKEN,
        RevocationOutcome.UNKNOWN_CLIENT,
        RevocationOutcome.BAD_CLIENT_DOCUMENT,
        RevocationOutcome.BAD_CLIENT_AUTHENTICATION,
        IntrospectionOutcome.BAD_CLIENT_AUTHENTICATION,
        ResourceOutcome.BAD_TOKEN,
        ResourceOutcome.NOT_AN_ACCESS_TOKEN,
        ResourceOutcome.WRONG_ISSUER,
        ResourceOutcome.UNKNOWN_KEY,
        ResourceOutcome.WRONG_AUDIENCE,
        ResourceOutcome.EXPIRED_TOKEN,
        ResourceOutcome.TOKEN_NOT_YET_VALID,
        ResourceOutcome.INACTIVE_TOKEN,
        ResourceOutcome.REVOKED_TOKEN,
        ResourceOutcome.INSUFFICIENT_SCOPE,
        ResourceOutcome.STEP_UP_REQUIRED,
        ResourceOutcome.SCOPE_NOT_GRANTED,
    ),
}
"""The event that an outcome is recorded as; any other outcome decided nothing about anybody's access."""

FACTS: Mapping[str, tuple[str, str]] = {
    "subject": ("user.id", "The user, by the identity provider's name for them, or `user.hash`, or neither."),
    "client_id": ("oauth.client.id", "The `client_id`."),
    "client_name": ("oauth.client.name", "What the client calls itself."),
    "client_family": ("oauth.client.family", "The known client that it is, such as `claude`, or `other`."),
    "grant_id": ("oauth.grant.id", "The grant: the same from the first tokens to the last."),
    "scopes": ("oauth.scopes", "The scopes of the grant or of the access token, as a list."),
    "resource": ("oauth.resource", "The protected resource."),
    "tool": ("gen_ai.tool.name", "The tool that is called."),
    "address": ("client.ip", "The address that the request came from."),
    "flow_id": ("oauth.flow.id", "What all records and log lines of a login have in common."),
    "correlation_id": ("http.request.id", "The `X-Correlation-Id` of the response, as in the log."),
    "trace_id": ("trace.id", "The trace, with tracing switched on."),
}
"""The fields that a record has where they are known: their names in it, and their meanings."""

COMMON: Mapping[str, str] = {
    "@timestamp": "The time, in UTC.",
    "ecs.version": "The version of the schema.",
    "event.kind": "`event`.",
    "event.category": "See the table of events; a list, as ECS has it.",
    "event.type": "See the table of events; a list.",
    "event.action": "The event.",
    "event.outcome": "`success` or `failure`: the decision.",
    "event.reason": "The row of the [table of outcomes](outcomes.md) that the request ended in.",
    "event.dataset": "`seed_oauth.audit`, which tells these records from log lines.",
}
"""The fields that every record has, and their meanings."""

DATASET = "seed_oauth.audit"


def record(
    event: Event, *, reason: str, succeeded: bool, time: str, facts: Iterable[tuple[str, object]]
) -> dict[str, object]:
    """One record; `facts` are (key of `FACTS`, value), and those without a value are left out."""
    known = {FACTS[name][0]: value for name, value in facts if value}
    return {
        "@timestamp": time,
        "ecs.version": ECS_VERSION,
        "event.kind": "event",
        "event.category": [event.category],
        "event.type": [event.type],
        "event.action": event.action,
        "event.outcome": "success" if succeeded else "failure",
        "event.reason": reason,
        "event.dataset": DATASET,
        **known,
    }
