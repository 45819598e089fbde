"""`/oauth/token`: exchange a code or a refresh token at the identity provider, on behalf of the client."""

from collections.abc import Mapping

from starlette.requests import Request

from seed_oauth.clients import Client, ClientStore
from seed_oauth.clients.authentication import ClientAuthentication
from seed_oauth.clients.family import family_of
from seed_oauth.flows import CodeRequest, Flow, RefreshRequest, transaction
from seed_oauth.flows.idp_failure import as_oauth_error
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer, json_response
from seed_oauth.http.parameters import read_form
from seed_oauth.http.requested_resource import UNKNOWN_RESOURCE, ProtectedResources
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.outcomes import GrantType, TokenOutcome
from seed_oauth.outcomes.errors import BAD_SCOPE, NOT_CONFIGURED, OAuthError
from seed_oauth.protocol import pkce, redirect_uri, scope

_SUCCESSES = {
    GrantType.AUTHORIZATION_CODE: TokenOutcome.EXCHANGED,
    GrantType.REFRESH_TOKEN: TokenOutcome.REFRESHED,
}


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
            raise as_oauth_error(failure, TokenOutcome) from failure
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
        code_challenge = transaction.code_challenge(code_verifier)
        log_fields.note(flow_id=transaction.flow_id(client.client_id, code_challenge))
        if "redirect_uri" in form and not redirect_uri.is_registered(form["redirect_uri"], client.redirect_uris):
            raise OAuthError(TokenOutcome.BAD_REDIRECT_URI, "redirect_uri must be that of the authorization request")
        return CodeRequest(
            client=client,
            code=form["code"],
            code_verifier=code_verifier,
            code_challenge=code_challenge,
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
