"""How a request to the protected resource can end."""

from seed_oauth.outcomes.row import Cause, Outcome


class ResourceOutcome(Outcome):
    """The protected resource: a request to the MCP server, which is forwarded or only checked here (RFC 6750 §3.1).

    NO_TOKEN is how each login begins: a client without a token learns where to get one.
    """

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    TOKEN_IN_QUERY = None, "invalid_request", 400, Cause.CLIENT
    # A reverse proxy asks that is not trusted, or about a URL at which nothing is protected.
    UNTRUSTED_PROXY = None, "invalid_request", 403, Cause.CLIENT
    NOT_A_RESOURCE = None, "invalid_request", 403, Cause.CLIENT
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
    # The same of one operation.
    STEP_UP_REQUIRED = None, "insufficient_scope", 403, Cause.CLIENT
    # The client was asked to log in for the scopes, did so, and has not got them: it is not asked again.
    SCOPE_NOT_GRANTED = None, "insufficient_scope", 403, Cause.CLIENT
    HEADER_MISMATCH = None, "invalid_request", 400, Cause.CLIENT
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
