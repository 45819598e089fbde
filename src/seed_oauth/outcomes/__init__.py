"""The table: one row for each way a request can end.

Everything that depends on how a request ended is read from here: the metric labels, the `error` code on
the wire, the HTTP status and who has to act. Rows that share their metric labels stay separate, because the
log line, the tests and `oauth_errors_total{reason}` need the exact reason, which is private. The code on the
wire is public and vague.

The columns of a row: the `result` label of its endpoint's counter, the wire `error`, the HTTP status, the cause.
"""

from seed_oauth.outcomes.login import AccountOutcome, AuthorizationOutcome, CallbackOutcome, ConsentOutcome
from seed_oauth.outcomes.resource import ResourceOutcome
from seed_oauth.outcomes.row import Cause, Check, ClientFamily, GrantType, Outcome
from seed_oauth.outcomes.tokens import (
    IntrospectionOutcome,
    LogoutOutcome,
    RegistrationOutcome,
    RevocationOutcome,
    TokenOutcome,
)

__all__ = [
    "AccountOutcome",
    "AuthorizationOutcome",
    "CallbackOutcome",
    "Cause",
    "Check",
    "ClientFamily",
    "ConsentOutcome",
    "EndpointOutcomes",
    "GrantType",
    "IntrospectionOutcome",
    "LogoutOutcome",
    "Outcome",
    "RegistrationOutcome",
    "ResourceOutcome",
    "RevocationOutcome",
    "TokenOutcome",
]

EndpointOutcomes = (
    type[AuthorizationOutcome]
    | type[ConsentOutcome]
    | type[CallbackOutcome]
    | type[AccountOutcome]
    | type[TokenOutcome]
    | type[RegistrationOutcome]
    | type[RevocationOutcome]
    | type[IntrospectionOutcome]
    | type[LogoutOutcome]
    | type[ResourceOutcome]
)
"""The table of any endpoint; all of them have the rows that the boundary needs."""
