"""`/oauth/revoke` (RFC 7009)."""

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.clients.authentication import ClientAuthentication
from seed_oauth.flows import Flow
from seed_oauth.http.answer import NO_STORE, Answer
from seed_oauth.http.parameters import read_form
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import RevocationOutcome
from seed_oauth.outcomes.errors import OAuthError


class RevocationEndpoint:
    """The revocation endpoint."""

    def __init__(self, authentication: ClientAuthentication, flow: Flow) -> None:
        self._authenticate = authentication
        self._flow = flow

    async def __call__(self, request: Request) -> Answer:
        """Answer one revocation request.

        Raises:
            OAuthError: any row of `RevocationOutcome` but the successful one.
        """
        form = await read_form(request)
        client = await self._authenticate(request.headers.get("authorization"), form, RevocationOutcome)
        if "token" not in form:
            raise OAuthError(RevocationOutcome.MISSING_PARAMETER, "token is missing")
        try:
            await self._flow.revoke(form["token"], form.get("token_type_hint"), client)
        except IdentityProviderError as failure:
            self._raise_unless_settled(failure)
        return Answer(RevocationOutcome.REVOKED, Response(status_code=200, headers=NO_STORE))

    @staticmethod
    def _raise_unless_settled(failure: IdentityProviderError) -> None:
        if failure.failure is not IdentityProviderFailure.REFUSED:
            # RFC 7009 §2.2.1: the client must assume that the token still exists, and retry.
            raise OAuthError(
                RevocationOutcome.IDP_FAILED, "the token could not be revoked: try again", failure.headers
            ) from failure
        if failure.error == "invalid_client":
            raise OAuthError(
                RevocationOutcome.IDP_REFUSED_OUR_CREDENTIALS,
                "the identity provider refused this server: its operator has to check its client credentials there",
            ) from failure
        # Any other refusal concerns the token, which is invalid then (RFC 7009 §2.2).
