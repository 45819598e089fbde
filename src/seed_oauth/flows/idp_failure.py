"""What a failed request to the identity provider's token endpoint means: the row of the table, and what is said of it.

One mapping for both endpoints that exchange something: their rows have the same names.
"""

from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import CallbackOutcome, ClientFamily, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError, Recipient

_LOGIN_REQUIRED = (TokenOutcome.IDP_LOGIN_REQUIRED, "the user has to log in again: start a new authorization")
_OUR_CREDENTIALS = (
    TokenOutcome.IDP_REFUSED_OUR_CREDENTIALS,
    "the identity provider refused this server: its operator has to check its client credentials there",
)
_IDP_PROBLEM = (TokenOutcome.IDP_SERVER_ERROR, "the identity provider has a problem: try again")
_INVALID_GRANT = (
    TokenOutcome.IDP_INVALID_GRANT,
    "the code or refresh token is invalid, expired or already used: start a new authorization",
)
_INVALID_TARGET = (TokenOutcome.IDP_INVALID_TARGET, "the identity provider does not know this resource")

_REFUSALS = {
    # RFC 6749 §5.2, RFC 8707 §2
    "invalid_grant": _INVALID_GRANT,
    "invalid_request": (TokenOutcome.IDP_INVALID_REQUEST, "the identity provider calls the request malformed"),
    "invalid_scope": (TokenOutcome.IDP_INVALID_SCOPE, "scope must not exceed what was granted"),
    "invalid_target": _INVALID_TARGET,
    "unsupported_grant_type": (
        TokenOutcome.IDP_UNSUPPORTED_GRANT_TYPE,
        "the identity provider does not offer this grant_type",
    ),
    "unauthorized_client": (
        TokenOutcome.IDP_UNAUTHORIZED_CLIENT,
        "the identity provider does not allow this server to use this grant_type",
    ),
    "invalid_client": _OUR_CREDENTIALS,
    # Codes of the authorization endpoint that come from the token endpoint, too (Entra ID, Azure AD B2C, Auth0).
    **dict.fromkeys(
        (
            "interaction_required", "login_required", "consent_required", "account_selection_required",
            "unmet_authentication_requirements", "mfa_required", "access_denied",
        ),
        _LOGIN_REQUIRED,
    ),
    **dict.fromkeys(("server_error", "temporarily_unavailable"), _IDP_PROBLEM),
    "invalid_resource": _INVALID_TARGET,
    # Slack, UAA
    **dict.fromkeys(("invalid_refresh_token", "token_expired", "token_revoked", "invalid_token"), _LOGIN_REQUIRED),
    **dict.fromkeys(("invalid_code", "code_already_used"), _INVALID_GRANT),
    **dict.fromkeys(("invalid_client_id", "bad_client_secret"), _OUR_CREDENTIALS),
}  # fmt: skip
"""What the `error` of a refusal means. After an unknown code clients must keep their tokens, so it is not here."""

_UNKNOWN_ERROR = (
    TokenOutcome.IDP_UNKNOWN_ERROR,
    "the identity provider refused for a reason of its own: try again, or ask the operator, whose log has it",
)

_WITHOUT_ACCESS = "the identity provider sent no access token: the operator has to look into it"

_TROUBLES = {
    IdentityProviderFailure.UNREACHABLE: (
        TokenOutcome.IDP_UNREACHABLE,
        "the identity provider cannot be reached: try again",
    ),
    IdentityProviderFailure.TIMEOUT: (
        TokenOutcome.IDP_TIMEOUT,
        "the identity provider did not answer in time: try again",
    ),
    IdentityProviderFailure.RATE_LIMITED: (
        TokenOutcome.IDP_RATE_LIMITED,
        "the identity provider is busy: try again later",
    ),
    IdentityProviderFailure.SERVER_ERROR: _IDP_PROBLEM,
    IdentityProviderFailure.UNEXPECTED_STATUS: (
        TokenOutcome.IDP_UNEXPECTED_STATUS,
        "the identity provider sent a status that no token response has: try again",
    ),
    IdentityProviderFailure.NO_ACCESS_TOKEN: (TokenOutcome.IDP_NO_ACCESS_TOKEN, _WITHOUT_ACCESS),
    IdentityProviderFailure.NESTED_TOKEN: (TokenOutcome.IDP_NESTED_TOKEN, _WITHOUT_ACCESS),
    IdentityProviderFailure.ID_TOKEN_ALONE: (TokenOutcome.IDP_ID_TOKEN_ALONE, _WITHOUT_ACCESS),
    IdentityProviderFailure.BAD_ID_TOKEN: (
        TokenOutcome.IDP_BAD_ID_TOKEN,
        "the identity provider sent an ID token that is not valid here: the operator has to look into it",
    ),
    IdentityProviderFailure.WRONG_SUBJECT: (
        TokenOutcome.IDP_WRONG_SUBJECT,
        "the identity provider spoke of two users at once: the operator has to look into it",
    ),
    IdentityProviderFailure.CIRCUIT_OPEN: (
        TokenOutcome.CIRCUIT_OPEN,
        "the identity provider is not responding, so it was not asked: send the same request again later",
    ),
    IdentityProviderFailure.TOO_MANY_IN_FLIGHT: (
        TokenOutcome.TOO_MANY_IN_FLIGHT,
        "too many requests are waiting for the identity provider: send the same request again later",
    ),
}
_NONSENSE = (TokenOutcome.IDP_INVALID_RESPONSE, "the identity provider sent no usable response: try again")


def as_oauth_error(
    failure: IdentityProviderError,
    outcomes: type[TokenOutcome] | type[CallbackOutcome],
    recipient: Recipient | None = None,
    client_family: ClientFamily = ClientFamily.OTHER,
) -> OAuthError:
    """Refusals are passed on faithfully; a temporary failure is never reported as a refusal."""
    if failure.failure is IdentityProviderFailure.REFUSED:
        row, description = _REFUSALS.get(failure.error or "", _UNKNOWN_ERROR)
    else:
        row, description = _TROUBLES.get(failure.failure, _NONSENSE)
    return OAuthError(outcomes[row.name], description, failure.headers, recipient, client_family)
