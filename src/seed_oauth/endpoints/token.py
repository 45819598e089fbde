"""`/oauth/token`: exchange a code or a refresh token at the identity provider, on behalf of the client."""

from collections.abc import Mapping

from starlette.requests import Request

from seed_oauth.clients import Client, ClientStore
from seed_oauth.clients.authentication import ClientAuthentication
from seed_oauth.clients.family import family_of
from seed_oauth.flows import CodeRequest, Flow, RefreshRequest, transaction
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer, json_response
from seed_oauth.http.parameters import read_form
from seed_oauth.http.requested_resource import UNKNOWN_RESOURCE, ProtectedResources
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import GrantType, TokenOutcome
from seed_oauth.outcomes.errors import BAD_SCOPE, NOT_CONFIGURED, OAuthError
from seed_oauth.protocol import pkce, redirect_uri, scope

_SUCCESSES = {
    GrantType.AUTHORIZATION_CODE: TokenOutcome.EXCHANGED,
    GrantType.REFRESH_TOKEN: TokenOutcome.REFRESHED,
}
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


class TokenEndpoint:
    """The token endpoint (RFC 6749 §3.2)."""

    def __init__(
        self,
        authentication: ClientAuthentication,
        flow: Flow,
        clients: ClientStore,
        resources: ProtectedResources,
        *,
        configured: bool,
    ) -> None:
        """`configured` tells whether there is an identity provider to exchange codes at."""
        self._authenticate = authentication
        self._flow = flow
        self._clients = clients
        self._resources = resources
        self._configured = configured

    async def __call__(self, request: Request) -> Answer:
        """Answer one token request.

        Raises:
            OAuthError: any row of `TokenOutcome` but the successful ones.
        """
        form = await read_form(request)
        if not self._configured:
            raise OAuthError(TokenOutcome.NOT_CONFIGURED, NOT_CONFIGURED)
        client = await self._authenticate(request.headers.get("authorization"), form, TokenOutcome)
        grant_type = _grant_type(form)
        if not client.may(grant_type):
            raise OAuthError(
                TokenOutcome.UNREGISTERED_GRANT_TYPE,
                f"this client has not registered for the grant_type {grant_type}: list it in grant_types",
                client_family=family_of(client),
            )
        try:
            if grant_type is GrantType.AUTHORIZATION_CODE:
                members = await self._flow.redeem(self._code_request(form, client))
            else:
                members = await self._flow.refresh(self._refresh_request(form, client))
        except IdentityProviderError as failure:
            raise _as_oauth_error(failure) from failure
        await self._clients.mark_used(client.client_id)
        # RFC 6750 §4: clients are promised Bearer, in this spelling; some providers write it in lower case.
        answered = {**members, "token_type": "Bearer"}
        if not client.may(GrantType.REFRESH_TOKEN):
            answered.pop("refresh_token", None)
        response = json_response(answered, 200)
        return Answer(_SUCCESSES[grant_type], response, family_of(client))

    def _code_request(self, form: Mapping[str, str], client: Client) -> CodeRequest:
        if "code" not in form:
            raise OAuthError(TokenOutcome.MISSING_PARAMETER, "code is missing")
        code_verifier = form.get("code_verifier", "")
        # Every authorization has a code_challenge, so a request without the verifier is never valid
        # (RFC 7636 §4.6; RFC 9700 §2.1.1 on PKCE downgrade).
        if not pkce.has_valid_length(code_verifier) or not pkce.has_valid_format(code_verifier):
            raise OAuthError(
                TokenOutcome.BAD_CODE_VERIFIER, "code_verifier must be that of the authorization request (RFC 7636)"
            )
        log_fields.note(flow_id=transaction.flow_id(client.client_id, transaction.code_challenge(code_verifier)))
        if "redirect_uri" in form and not redirect_uri.is_registered(form["redirect_uri"], client.redirect_uris):
            raise OAuthError(TokenOutcome.BAD_REDIRECT_URI, "redirect_uri must be that of the authorization request")
        return CodeRequest(
            client=client,
            code=form["code"],
            code_verifier=code_verifier,
            redirect_uri=form.get("redirect_uri"),
            resource=self._resource(form),
        )

    def _refresh_request(self, form: Mapping[str, str], client: Client) -> RefreshRequest:
        if "refresh_token" not in form:
            raise OAuthError(TokenOutcome.MISSING_PARAMETER, "refresh_token is missing")
        if "scope" in form and not scope.is_valid(form["scope"]):
            raise OAuthError(TokenOutcome.BAD_SCOPE, BAD_SCOPE)
        return RefreshRequest(
            client=client,
            refresh_token=form["refresh_token"],
            scope=form.get("scope"),
            resource=self._resource(form),
        )

    def _resource(self, form: Mapping[str, str]) -> str | None:
        resource = self._resources.find(form.get("resource"))
        if "resource" in form and resource is None:
            raise OAuthError(TokenOutcome.BAD_RESOURCE, UNKNOWN_RESOURCE)
        return resource


def _grant_type(form: Mapping[str, str]) -> GrantType:
    if "grant_type" not in form:
        raise OAuthError(TokenOutcome.MISSING_PARAMETER, "grant_type is missing")
    try:
        return GrantType(form["grant_type"])
    except ValueError:
        raise OAuthError(
            TokenOutcome.UNSUPPORTED_GRANT_TYPE, "grant_type must be authorization_code or refresh_token"
        ) from None


def _as_oauth_error(failure: IdentityProviderError) -> OAuthError:
    """Refusals are passed on faithfully; a temporary failure is never reported as a refusal."""
    if failure.failure is IdentityProviderFailure.REFUSED:
        outcome, description = _REFUSALS.get(failure.error or "", _UNKNOWN_ERROR)
    else:
        outcome, description = _TROUBLES.get(failure.failure, _NONSENSE)
    return OAuthError(outcome, description, failure.headers)
