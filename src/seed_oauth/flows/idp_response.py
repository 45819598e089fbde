"""The identity provider's authorization response (RFC 6749 §4.1.2): a code, or why not; and whose ID token it is."""

from collections.abc import Mapping

from seed_oauth.flows import transaction
from seed_oauth.flows.transaction import IdpLogin
from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure, said_in
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.outcomes import CallbackOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.protocol.issuer import is_issuer

Refusal = tuple[CallbackOutcome, str]
"""A row of the table, and what the client is told."""

_DENIED = (CallbackOutcome.DENIED, "the login was not completed at the identity provider")
_REFUSED = (
    CallbackOutcome.IDP_REFUSED,
    "the identity provider refused the request of this server: its operator has to check the configuration",
)
_FAILED = (CallbackOutcome.IDP_FAILED, "the identity provider has a problem: try again")

_ERRORS: Mapping[str, Refusal] = {
    # RFC 6749 §4.1.2.1
    "access_denied": _DENIED,
    "invalid_scope": (CallbackOutcome.IDP_INVALID_SCOPE, "the identity provider does not know one of the scopes"),
    "server_error": _FAILED,
    "temporarily_unavailable": _FAILED,
    # RFC 8707 §2
    "invalid_target": (CallbackOutcome.IDP_INVALID_TARGET, "the identity provider does not know this resource"),
    # OpenID Connect Core §3.1.2.6: the user would have had to do something.
    "login_required": _DENIED,
    "consent_required": _DENIED,
    "interaction_required": _DENIED,
    "account_selection_required": _DENIED,
    "unmet_authentication_requirements": _DENIED,
}
"""What the identity provider's `error` means for the client. Any other code means that it refuses this server."""

_NO_NONCE = (
    CallbackOutcome.IDP_NO_NONCE,
    "the ID token of the identity provider has no nonce: the operator has to look into it",
)
_WRONG_NONCE = (
    CallbackOutcome.IDP_WRONG_NONCE,
    "the identity provider sent the tokens of another login: start a new authorization",
)


def code_in(response: Mapping[str, str], login: IdpLogin, metadata: ProviderMetadata) -> str:
    """The identity provider's code.

    Raises:
        OAuthError: the response is from another identity provider, or carries no code.
    """
    if not _is_from(metadata, response):
        raise OAuthError(
            CallbackOutcome.WRONG_ISSUER,
            "this response is not from the identity provider that was asked: connect again from your application",
        )
    if refusal := _refusal_in(response):
        begun = login.transaction
        error = OAuthError(*refusal, recipient=begun.recipient, client_family=begun.family)
        raise error from _failure_in(response)
    return response["code"]


def check_nonce(nonce: object, login: IdpLogin) -> None:
    """An ID token of another login must not be taken for this one's (OpenID Connect Core §3.1.3.7, number 11).

    Some identity providers send an ID token that was not asked for, which then has no nonce to repeat.
    """
    if nonce == transaction.nonce(login.secret):
        return
    row, description = _WRONG_NONCE if nonce is not None else _NO_NONCE
    begun = login.transaction
    raise OAuthError(row, description, recipient=begun.recipient, client_family=begun.family)


def _failure_in(response: Mapping[str, str]) -> IdentityProviderError:
    """The refusal in the identity provider's own words, for the log."""
    said = {name: value for name, value in response.items() if name in {"error", "error_description"}}
    return IdentityProviderError(IdentityProviderFailure.REFUSED, said=said_in(said, secrets=[response["state"]]))


def _refusal_in(response: Mapping[str, str]) -> Refusal | None:
    """Why the response carries no code; None when it carries one."""
    try:
        if "error" in response:
            return _ERRORS.get(response["error"], _REFUSED)
        if "code" in response:
            return None
    except MalformedRequestError:
        pass  # the client has to hear of it, as of any other response without a usable code
    return CallbackOutcome.NO_CODE, "the identity provider sent no usable code: try again"


def _is_from(metadata: ProviderMetadata, response: Mapping[str, str]) -> bool:
    """Whether the response may be from this identity provider: mix-up defence (RFC 9207 §2.4)."""
    iss = response.get("iss")
    if iss is None:
        return not metadata.sends_issuer
    return metadata.issuer is None or is_issuer(iss, metadata.issuer)
