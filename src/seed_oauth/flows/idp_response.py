"""What the identity provider's authorization response says (RFC 6749 §4.1.2): a code, or why there is none."""

from collections.abc import Mapping

from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.outcomes import CallbackOutcome
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
}
"""What the identity provider's `error` means for the client. Any other code means that it refuses this server."""


def refusal_in(response: Mapping[str, str]) -> Refusal | None:
    """Why the response carries no code; None when it carries one."""
    if "error" in response:
        return _ERRORS.get(response["error"], _REFUSED)
    if "code" not in response:
        return CallbackOutcome.NO_CODE, "the identity provider sent no code: try again"
    return None


def is_from(metadata: ProviderMetadata, response: Mapping[str, str]) -> bool:
    """Whether the response may be from this identity provider: mix-up defence (RFC 9207 §2.4)."""
    iss = response.get("iss")
    if iss is None:
        return not metadata.sends_issuer
    return metadata.issuer is None or is_issuer(iss, metadata.issuer)
