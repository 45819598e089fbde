"""How the steps of a login in the browser can end."""

from seed_oauth.outcomes.row import Cause, Outcome


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
    # Somebody else than the one whose consent was remembered: their authorization request was counted before.
    DENIED_AFTER_LOGIN = None, "access_denied", 200, Cause.USER
    APPROVED_AFTER_LOGIN = None, None, 200, None
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
    # It gave a code, which cannot be exchanged. These rows are named as those of the token endpoint.
    CIRCUIT_OPEN = "error", "temporarily_unavailable", 302, Cause.IDP
    TOO_MANY_IN_FLIGHT = "error", "temporarily_unavailable", 302, Cause.IDP
    # The page was reloaded, or the code was too old; or it is the code of another login.
    IDP_INVALID_GRANT = "error", "access_denied", 302, Cause.USER
    IDP_LOGIN_REQUIRED = "denied", "access_denied", 302, Cause.USER
    # The client has no part in this request, so neither of these is its fault.
    IDP_INVALID_REQUEST = "error", "server_error", 302, Cause.SERVER
    IDP_UNSUPPORTED_GRANT_TYPE = "error", "server_error", 302, Cause.SERVER
    IDP_UNAUTHORIZED_CLIENT = "error", "server_error", 302, Cause.SERVER
    IDP_REFUSED_OUR_CREDENTIALS = "error", "server_error", 302, Cause.SERVER
    IDP_UNREACHABLE = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_TIMEOUT = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_RATE_LIMITED = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_SERVER_ERROR = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_INVALID_RESPONSE = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_UNEXPECTED_STATUS = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_UNKNOWN_ERROR = "error", "temporarily_unavailable", 302, Cause.IDP
    IDP_NO_ACCESS_TOKEN = "error", "server_error", 302, Cause.IDP
    IDP_NESTED_TOKEN = "error", "server_error", 302, Cause.IDP
    IDP_ID_TOKEN_ALONE = "error", "server_error", 302, Cause.SERVER
    # The ID token belongs to no login, or to another one (OpenID Connect Core §3.1.3.7).
    IDP_NO_NONCE = "error", "server_error", 302, Cause.IDP
    IDP_WRONG_NONCE = "error", "server_error", 302, Cause.IDP
    IDP_BAD_ID_TOKEN = "error", "server_error", 302, Cause.IDP
    # Userinfo is about another user (OpenID Connect Core §5.3.2).
    IDP_WRONG_SUBJECT = "error", "server_error", 302, Cause.IDP
    # The access rules do not let this user in: nobody gets a code.
    NOT_ALLOWED = "denied", "access_denied", 403, Cause.USER
    # The tokens cannot be kept for the client.
    STORE_FAILED = "error", "temporarily_unavailable", 302, Cause.SERVER
    # Nobody's page can be shown to a user who is not known.
    NO_SUBJECT = "error", "server_error", 403, Cause.SERVER
    CANCELLED = "error", "server_error", 503, Cause.USER
    UNEXPECTED = "error", "server_error", 500, Cause.SERVER
    CONSENT_ASKED = "success", None, 200, None
    RETURNED = "success", None, 302, None
    # To the account page, which is no client: there is no code.
    SIGNED_IN = "success", None, 302, None


class AccountOutcome(Outcome):
    """`/oauth/account`, where users see which applications have access and revoke it."""

    METHOD_NOT_ALLOWED = None, "invalid_request", 405, Cause.CLIENT
    RATE_LIMITED = None, "temporarily_unavailable", 429, Cause.CLIENT
    BODY_TOO_LARGE = None, "invalid_request", 413, Cause.CLIENT
    MALFORMED_REQUEST = None, "invalid_request", 400, Cause.CLIENT
    NOT_CONFIGURED = None, "server_error", 503, Cause.SERVER
    # The callback has counted why.
    LOGIN_FAILED = None, "access_denied", 403, Cause.USER
    IDP_UNAVAILABLE = None, "temporarily_unavailable", 503, Cause.IDP
    # The form was not made here, or for another browser: somebody may be forging the request (RFC 6749 §10.12).
    BAD_FORM = None, "invalid_request", 400, Cause.CLIENT
    OTHER_BROWSER = None, "access_denied", 403, Cause.USER
    # The session has ended, or somebody else has signed in since the page was shown.
    EXPIRED = None, "access_denied", 403, Cause.USER
    STORE_FAILED = None, "temporarily_unavailable", 503, Cause.SERVER
    CANCELLED = None, "server_error", 503, Cause.USER
    UNEXPECTED = None, "server_error", 500, Cause.SERVER
    REDIRECTED_TO_IDP = None, None, 302, None
    SHOWN = None, None, 200, None
    # The user has no such grant, or it has been revoked before.
    NOTHING_TO_REVOKE = None, None, 303, None
    REVOKED = None, None, 303, None
