"""The table: one row for each way a request can end.

Everything that depends on how a request ended is read from here: the metric labels, the `error` code on
the wire, the HTTP status and who has to act. Rows that share their metric labels stay separate, because the
log line, the tests and `oauth_errors_total{reason}` need the exact reason, which is private. The code on the
wire is public and vague.

The columns of a row: the `result` label of its endpoint's counter, the wire `error`, the HTTP status, the cause.
"""

from enum import Enum, StrEnum
from typing import Self


class Cause(StrEnum):
    """Who has to act so that this does not happen again (label `cause` of `oauth_errors_total`)."""

    CLIENT = "client"
    """The MCP client: it sent something that it must not send."""
    USER = "user"
    """The person who logs in: they gave up, or took too long."""
    IDP = "idp"
    """The identity provider."""
    SERVER = "server"
    """This server: its settings, its store, its code."""


class GrantType(StrEnum):
    """The grants that are proxied (label `grant_type`)."""

    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant (RFC 6749 §6)


class ClientFamily(StrEnum):
    """Label `client_family`: a closed list, because clients must not be able to make up label values."""

    CLAUDE = "claude"
    CHATGPT = "chatgpt"
    CODEX = "codex"
    VSCODE = "vscode"
    CURSOR = "cursor"
    INSPECTOR = "inspector"
    OTHER = "other"


class Outcome(Enum):
    """A row of the table. Each endpoint has its own enum of them, below."""

    def __new__(cls, *_row: object) -> Self:
        # Rows with equal columns are still different outcomes, so a member's value is its position.
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, result: str | None, error: str | None, status: int, cause: Cause | None) -> None:
        self.result = result
        """The `result` label of the endpoint's own counter; None where the endpoint has none."""
        self.error = error
        """The `error` code on the wire (RFC 6749 §4.1.2.1, §5.2; RFC 7591 §3.2.2); None for success."""
        self.status = status
        """The HTTP status, unless the response is a redirect back to the client."""
        self.cause = cause
        """Who has to act; None for success."""
        self.reason = self.name.lower()
        """The label `reason` of `oauth_errors_total` and the log's `outcome`."""


class AuthorizationOutcome(Outcome):
    """`/oauth/authorize`, in the order of its checks: the first that fails is the row that is counted."""

    METHOD_NOT_ALLOWED = "error", "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = "error", "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = "error", "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = "error", "invalid_request", 400, Cause.CLIENT
    # The eight points of the specification: seven ways to fail …
    NOT_CONFIGURED = "error", "server_error", 503, Cause.SERVER
    BAD_CODE_CHALLENGE_METHOD = "error", "invalid_request", 400, Cause.CLIENT
    BAD_CODE_CHALLENGE_LENGTH = "error", "invalid_request", 400, Cause.CLIENT
    BAD_CODE_CHALLENGE_FORMAT = "error", "invalid_request", 400, Cause.CLIENT
    UNKNOWN_CLIENT = "invalid_client", "invalid_client", 400, Cause.CLIENT
    # Two more ways for a client not to be found, where its client_id is the URL of a document. Its publisher has to
    # act when the document is unavailable, and made-up URLs must not be able to page the operator.
    BAD_CLIENT_DOCUMENT = "invalid_client", "invalid_client", 400, Cause.CLIENT
    CLIENT_DOCUMENT_UNAVAILABLE = "error", "temporarily_unavailable", 503, Cause.CLIENT
    CLIENT_NOT_ALLOWED = "invalid_client", "unauthorized_client", 403, Cause.CLIENT
    BAD_REDIRECT_URI = "error", "invalid_request", 400, Cause.CLIENT
    CLIENT_LOOKUP_FAILED = "error", "server_error", 503, Cause.SERVER
    # … what RFC 6749 §4.1.2.1 and RFC 8707 §2 require besides …
    MISSING_RESPONSE_TYPE = "error", "invalid_request", 400, Cause.CLIENT
    UNSUPPORTED_RESPONSE_TYPE = "error", "unsupported_response_type", 400, Cause.CLIENT
    BAD_SCOPE = "error", "invalid_scope", 400, Cause.CLIENT
    BAD_RESOURCE = "error", "invalid_target", 400, Cause.CLIENT
    IDP_UNAVAILABLE = "error", "temporarily_unavailable", 503, Cause.IDP
    CANCELLED = "error", "server_error", 503, Cause.USER
    UNEXPECTED = "error", "server_error", 500, Cause.SERVER
    # … and the one way to succeed. Where the user is asked for consent first, the consent endpoint counts the answer.
    CONSENT_ASKED = None, None, 200, None
    REDIRECTED_TO_IDP = "success", None, 302, None


class ConsentOutcome(Outcome):
    """`/oauth/consent`, where the user's decision ends the authorization request."""

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = None, "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    BAD_ENVELOPE = None, "invalid_request", 400, Cause.CLIENT
    EXPIRED = None, "invalid_request", 400, Cause.USER
    OTHER_BROWSER = None, "access_denied", 403, Cause.USER
    NO_DECISION = None, "invalid_request", 400, Cause.CLIENT
    IDP_UNAVAILABLE = "error", "temporarily_unavailable", 503, Cause.IDP
    DENIED = "error", "access_denied", 200, Cause.USER
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = "error", "server_error", 500, Cause.SERVER
    APPROVED = "success", None, 200, None


class CallbackOutcome(Outcome):
    """`/oauth/callback`, where the identity provider sends the browser back to."""

    METHOD_NOT_ALLOWED = "error", "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = "error", "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = "error", "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = "error", "invalid_request", 400, Cause.CLIENT
    BAD_STATE = "error", "invalid_request", 400, Cause.CLIENT
    EXPIRED = "error", "invalid_request", 400, Cause.USER
    OTHER_BROWSER = "error", "access_denied", 403, Cause.USER
    # The response of another authorization server than the one that was asked (RFC 9207 §2.4).
    WRONG_ISSUER = "error", "invalid_request", 400, Cause.IDP
    # The identity provider answered with an error instead of a code (RFC 6749 §4.1.2.1); the client is told.
    DENIED = "denied", "access_denied", 302, Cause.USER
    IDP_INVALID_SCOPE = "error", "invalid_scope", 302, Cause.CLIENT
    IDP_INVALID_TARGET = "error", "invalid_target", 302, Cause.CLIENT
    IDP_REFUSED = "error", "server_error", 302, Cause.SERVER
    IDP_FAILED = "error", "temporarily_unavailable", 302, Cause.IDP
    NO_CODE = "error", "server_error", 302, Cause.IDP
    CANCELLED = "error", "server_error", 503, Cause.USER
    UNEXPECTED = "error", "server_error", 500, Cause.SERVER
    RETURNED = "success", None, 302, None


class TokenOutcome(Outcome):
    """`/oauth/token`. Rows named IDP_ come after a request to the identity provider, the others before.

    The endpoint has no counter of its own: an exchange is one request to the identity provider, which is counted
    and timed where it is made (`identity_provider/timed.py`).
    """

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    # Never invalid_grant or invalid_client, on which clients discard valid tokens and registrations.
    RATE_LIMITED = None, "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    NOT_CONFIGURED = None, "server_error", 503, Cause.SERVER
    UNKNOWN_CLIENT = None, "invalid_client", 401, Cause.CLIENT
    BAD_CLIENT_DOCUMENT = None, "invalid_client", 401, Cause.CLIENT
    CLIENT_DOCUMENT_UNAVAILABLE = None, "temporarily_unavailable", 503, Cause.CLIENT
    BAD_CLIENT_AUTHENTICATION = None, "invalid_client", 401, Cause.CLIENT
    CLIENT_LOOKUP_FAILED = None, "temporarily_unavailable", 503, Cause.SERVER
    UNSUPPORTED_GRANT_TYPE = None, "unsupported_grant_type", 400, Cause.CLIENT
    UNREGISTERED_GRANT_TYPE = None, "unauthorized_client", 400, Cause.CLIENT
    MISSING_PARAMETER = None, "invalid_request", 400, Cause.CLIENT
    BAD_CODE_VERIFIER = None, "invalid_grant", 400, Cause.CLIENT
    BAD_REDIRECT_URI = None, "invalid_grant", 400, Cause.CLIENT
    BAD_SCOPE = None, "invalid_scope", 400, Cause.CLIENT
    BAD_RESOURCE = None, "invalid_target", 400, Cause.CLIENT
    # Only in the broker flow, whose codes and refresh tokens are sealed here.
    BAD_CODE = None, "invalid_grant", 400, Cause.CLIENT
    BAD_REFRESH_TOKEN = None, "invalid_grant", 400, Cause.CLIENT
    # The refresh token is good, but the user has to log in again after `login_days`.
    LOGIN_EXPIRED = None, "invalid_grant", 400, Cause.USER
    # Counted once for each grant: from then on the grant is revoked, for the client and for a thief alike.
    REFRESH_TOKEN_REUSED = None, "invalid_grant", 400, Cause.CLIENT
    REFRESH_TOKEN_REVOKED = None, "invalid_grant", 400, Cause.CLIENT
    STORE_FAILED = None, "temporarily_unavailable", 503, Cause.SERVER
    # The identity provider does not respond, so it was not asked: the code or token remains valid.
    CIRCUIT_OPEN = None, "temporarily_unavailable", 503, Cause.IDP
    TOO_MANY_IN_FLIGHT = None, "temporarily_unavailable", 503, Cause.IDP
    # Definite refusals by the identity provider, passed on faithfully.
    IDP_INVALID_GRANT = None, "invalid_grant", 400, Cause.CLIENT
    # The user has to log in again: a second factor, consent that was withdrawn, a session that has ended.
    IDP_LOGIN_REQUIRED = None, "invalid_grant", 400, Cause.USER
    IDP_INVALID_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    IDP_INVALID_SCOPE = None, "invalid_scope", 400, Cause.CLIENT
    IDP_INVALID_TARGET = None, "invalid_target", 400, Cause.CLIENT
    IDP_UNSUPPORTED_GRANT_TYPE = None, "unsupported_grant_type", 400, Cause.SERVER
    IDP_UNAUTHORIZED_CLIENT = None, "unauthorized_client", 400, Cause.SERVER
    # It refused *our* credentials. On invalid_client a client would register again, for ever.
    IDP_REFUSED_OUR_CREDENTIALS = None, "server_error", 502, Cause.SERVER
    # Temporary failures: never invalid_grant, on which clients discard valid tokens.
    IDP_UNREACHABLE = None, "temporarily_unavailable", 503, Cause.IDP
    IDP_TIMEOUT = None, "temporarily_unavailable", 503, Cause.IDP
    IDP_RATE_LIMITED = None, "temporarily_unavailable", 503, Cause.IDP
    IDP_SERVER_ERROR = None, "temporarily_unavailable", 502, Cause.IDP
    IDP_INVALID_RESPONSE = None, "temporarily_unavailable", 502, Cause.IDP
    IDP_UNEXPECTED_STATUS = None, "temporarily_unavailable", 502, Cause.IDP
    IDP_UNKNOWN_ERROR = None, "temporarily_unavailable", 502, Cause.IDP
    # No error, and no access token where RFC 6749 §5.1 puts it.
    IDP_NO_ACCESS_TOKEN = None, "server_error", 502, Cause.IDP
    IDP_NESTED_TOKEN = None, "server_error", 502, Cause.IDP
    # Azure AD B2C does so when no API is among the scopes, which the operator chooses.
    IDP_ID_TOKEN_ALONE = None, "server_error", 502, Cause.SERVER
    # The ID token belongs to no login, or to another one (OpenID Connect Core §3.1.3.7).
    IDP_NO_NONCE = None, "server_error", 502, Cause.IDP
    IDP_WRONG_NONCE = None, "server_error", 502, Cause.IDP
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = None, "server_error", 500, Cause.SERVER
    EXCHANGED = None, None, 200, None
    REFRESHED = None, None, 200, None


class RegistrationOutcome(Outcome):
    """`/oauth/register` (RFC 7591)."""

    METHOD_NOT_ALLOWED = "invalid", "invalid_request", 405, Cause.CLIENT
    # Not "error", which means that the store has failed: a flood must not page the operator.
    RATE_LIMITED = "invalid", "temporarily_unavailable", 429, Cause.CLIENT
    CLOSED = "invalid", "access_denied", 403, Cause.CLIENT
    BAD_INITIAL_ACCESS_TOKEN = "invalid", "invalid_token", 401, Cause.CLIENT
    BODY_TOO_LARGE = "invalid", "invalid_client_metadata", 413, Cause.CLIENT
    MALFORMED_REQUEST = "invalid", "invalid_client_metadata", 400, Cause.CLIENT
    BAD_REDIRECT_URI = "invalid", "invalid_redirect_uri", 400, Cause.CLIENT
    BAD_CLIENT_METADATA = "invalid", "invalid_client_metadata", 400, Cause.CLIENT
    STORE_FAILED = "error", "temporarily_unavailable", 503, Cause.SERVER
    QUOTA_EXHAUSTED = "error", "temporarily_unavailable", 503, Cause.SERVER
    CANCELLED = "error", "server_error", 503, Cause.USER
    UNEXPECTED = "error", "server_error", 500, Cause.SERVER
    REGISTERED = "success", None, 201, None


class RevocationOutcome(Outcome):
    """`/oauth/revoke` (RFC 7009)."""

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = None, "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    STORE_FAILED = None, "temporarily_unavailable", 503, Cause.SERVER
    UNKNOWN_CLIENT = None, "invalid_client", 401, Cause.CLIENT
    BAD_CLIENT_DOCUMENT = None, "invalid_client", 401, Cause.CLIENT
    CLIENT_DOCUMENT_UNAVAILABLE = None, "temporarily_unavailable", 503, Cause.CLIENT
    BAD_CLIENT_AUTHENTICATION = None, "invalid_client", 401, Cause.CLIENT
    CLIENT_LOOKUP_FAILED = None, "temporarily_unavailable", 503, Cause.SERVER
    MISSING_PARAMETER = None, "invalid_request", 400, Cause.CLIENT
    IDP_REFUSED_OUR_CREDENTIALS = None, "server_error", 502, Cause.SERVER
    IDP_FAILED = None, "temporarily_unavailable", 503, Cause.IDP
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = None, "server_error", 500, Cause.SERVER
    REVOKED = None, None, 200, None


class ResourceOutcome(Outcome):
    """The protected resource: a request to the MCP server behind this server (RFC 6750 §3.1).

    NO_TOKEN is how each login begins: a client without a token learns where to get one.
    """

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    TOKEN_IN_QUERY = None, "invalid_request", 400, Cause.CLIENT
    FORBIDDEN_ORIGIN = None, "invalid_request", 403, Cause.CLIENT
    NO_TOKEN = None, "invalid_token", 401, Cause.CLIENT
    # The token is invalid: one code for every reason (RFC 6750 §3.1).
    BAD_TOKEN = None, "invalid_token", 401, Cause.CLIENT
    NOT_AN_ACCESS_TOKEN = None, "invalid_token", 401, Cause.CLIENT
    WRONG_ISSUER = None, "invalid_token", 401, Cause.CLIENT
    UNKNOWN_KEY = None, "invalid_token", 401, Cause.CLIENT
    WRONG_AUDIENCE = None, "invalid_token", 401, Cause.CLIENT
    EXPIRED_TOKEN = None, "invalid_token", 401, Cause.CLIENT
    # The signature is valid, but the token is from the future: a clock is wrong, here or at the identity provider.
    TOKEN_NOT_YET_VALID = None, "invalid_token", 401, Cause.SERVER
    INACTIVE_TOKEN = None, "invalid_token", 401, Cause.CLIENT
    REVOKED_TOKEN = None, "invalid_token", 401, Cause.CLIENT
    INSUFFICIENT_SCOPE = None, "insufficient_scope", 403, Cause.CLIENT
    # The token cannot be checked now: never 401, on which clients discard valid tokens.
    NOT_CONFIGURED = None, "server_error", 503, Cause.SERVER
    TOKEN_CHECK_UNAVAILABLE = None, "temporarily_unavailable", 503, Cause.IDP
    TOKEN_CHECK_REFUSED = None, "server_error", 502, Cause.SERVER
    # The token is valid, but the MCP server behind the reverse proxy fails.
    MCP_SERVER_UNREACHABLE = None, "temporarily_unavailable", 502, Cause.SERVER
    MCP_SERVER_TIMEOUT = None, "temporarily_unavailable", 504, Cause.SERVER
    MCP_SERVER_INVALID_RESPONSE = None, "server_error", 502, Cause.SERVER
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = None, "server_error", 500, Cause.SERVER
    ALLOWED = None, None, 200, None


EndpointOutcomes = (
    type[AuthorizationOutcome]
    | type[ConsentOutcome]
    | type[CallbackOutcome]
    | type[TokenOutcome]
    | type[RegistrationOutcome]
    | type[RevocationOutcome]
    | type[ResourceOutcome]
)
"""The table of any endpoint; all of them have the rows that the boundary needs."""
