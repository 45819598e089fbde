"""How the requests that programs send to this server can end."""

from seed_oauth.outcomes.row import Cause, Outcome


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
    # The code may be stolen: its grant is revoked (RFC 6749 §4.1.2).
    CODE_REUSED = None, "invalid_grant", 400, Cause.CLIENT
    BAD_REFRESH_TOKEN = None, "invalid_grant", 400, Cause.CLIENT
    # The refresh token is good, but the user has to log in again after `login_days`.
    LOGIN_EXPIRED = None, "invalid_grant", 400, Cause.USER
    # Counted once for each grant: from then on the grant is revoked, for the client and for a thief alike.
    REFRESH_TOKEN_REUSED = None, "invalid_grant", 400, Cause.CLIENT
    REFRESH_TOKEN_REVOKED = None, "invalid_grant", 400, Cause.CLIENT
    # The operator, or the identity provider by a logout, has revoked it since the login.
    GRANT_REVOKED = None, "invalid_grant", 400, Cause.USER
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
    # Its ID token is not for this server, or the user is another one than before (OpenID Connect Core §3.1.3.7, §12.2).
    IDP_BAD_ID_TOKEN = None, "server_error", 502, Cause.IDP
    IDP_WRONG_SUBJECT = None, "server_error", 502, Cause.IDP
    # The access rules do not let the user in any more; the grant is revoked.
    NOT_ALLOWED = None, "invalid_grant", 400, Cause.USER
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


class IntrospectionOutcome(Outcome):
    """`/oauth/introspect` (RFC 7662). What is wrong with a token is in the log, and never in the answer (§2.2)."""

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = None, "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    BAD_CLIENT_AUTHENTICATION = None, "invalid_client", 401, Cause.CLIENT
    MISSING_PARAMETER = None, "invalid_request", 400, Cause.CLIENT
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = None, "server_error", 500, Cause.SERVER
    INACTIVE = None, None, 200, None
    ACTIVE = None, None, 200, None


class LogoutOutcome(Outcome):
    """`/oauth/backchannel-logout` (OpenID Connect Back-Channel Logout 1.0), where the identity provider is the client.

    Anybody can send something here, so what is not signed by it is never the operator's business. A logout that fails
    is answered 400, whoever has to act (§2.8).
    """

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = None, "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    MISSING_PARAMETER = None, "invalid_request", 400, Cause.CLIENT
    BAD_LOGOUT_TOKEN = None, "invalid_request", 400, Cause.CLIENT
    WRONG_ISSUER = None, "invalid_request", 400, Cause.CLIENT
    WRONG_AUDIENCE = None, "invalid_request", 400, Cause.CLIENT
    # The signature is good, so it is the identity provider's clock or ours, or somebody repeats what they have seen.
    EXPIRED = None, "invalid_request", 400, Cause.IDP
    REPLAYED = None, "invalid_request", 400, Cause.CLIENT
    NOT_CONFIGURED = None, "server_error", 400, Cause.SERVER
    IDP_UNAVAILABLE = None, "temporarily_unavailable", 400, Cause.IDP
    STORE_FAILED = None, "temporarily_unavailable", 400, Cause.SERVER
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = None, "server_error", 500, Cause.SERVER
    LOGGED_OUT = None, None, 200, None
