"""`/oauth/revoke` (RFC 7009): pass a revocation on to the identity provider."""

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.answer import NO_STORE, Answer
from seed_oauth.client_authentication import authenticate_client
from seed_oauth.clients import ClientStore
from seed_oauth.errors import OAuthError
from seed_oauth.identity_provider import IdentityProvider, IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import RevocationOutcome
from seed_oauth.parameters import read_form


class RevocationEndpoint:
    """The revocation endpoint, served only where the identity provider has one."""

    def __init__(self, clients: ClientStore, identity_provider: IdentityProvider) -> None:
        self._clients = clients
        self._identity_provider = identity_provider

    async def __call__(self, request: Request) -> Answer:
        """Answer one revocation request.

        Raises:
            OAuthError: any row of `RevocationOutcome` but the successful one.
        """
        form = await read_form(request)
        authorization = request.headers.get("authorization")
        await authenticate_client(authorization, form, self._clients, RevocationOutcome)
        if "token" not in form:
            raise OAuthError(RevocationOutcome.MISSING_PARAMETER, "token is missing")
        passed_on = ("token", "token_type_hint")
        parameters: dict[str, str] = {name: form[name] for name in passed_on if name in form}
        try:
            await self._identity_provider.revoke(parameters)
        except IdentityProviderError as failure:
            self._raise_unless_settled(failure)
        return Answer(RevocationOutcome.REVOKED, Response(status_code=200, headers=NO_STORE))

    @staticmethod
    def _raise_unless_settled(failure: IdentityProviderError) -> None:
        if failure.failure is not IdentityProviderFailure.REFUSED:
            # RFC 7009 §2.2.1: the client must assume that the token still exists, and retry.
            raise OAuthError(RevocationOutcome.IDP_FAILED, "the token could not be revoked yet, try again") from failure
        if failure.error == "invalid_client":
            raise OAuthError(
                RevocationOutcome.IDP_REFUSED_OUR_CREDENTIALS,
                "the identity provider refused this server: its operator has to check its client credentials there",
            ) from failure
        # Any other refusal is about the token, which is then good for nothing (RFC 7009 §2.2).
