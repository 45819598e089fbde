"""The relay flow: the client's own redirect_uri, state and PKCE pair go to the identity provider.

The code, the verifier and the redirect_uri are bound together there, so this server stores and seals nothing.
It is for identity providers that accept the clients' redirect URIs.
"""

from starlette.requests import Request

from seed_oauth.clients import Client
from seed_oauth.clients.family import family_of
from seed_oauth.flows import AuthorizationRequest, CodeRequest, IdpParameters, RefreshRequest, TokenMembers
from seed_oauth.http.answer import Answer, found
from seed_oauth.http.parameters import add_to_query
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import AuthorizationOutcome, GrantType


class RelayFlow:
    """A `Flow` that replaces the client's credentials by this server's, and changes nothing else."""

    def __init__(
        self, parameters: IdpParameters, metadata: MetadataSource, identity_provider: IdentityProvider
    ) -> None:
        self._parameters = parameters
        self._metadata = metadata
        self._identity_provider = identity_provider

    async def begin(self, asked: AuthorizationRequest, request: Request) -> Answer:  # noqa: ARG002 - the browser plays no part
        """Send the browser to the identity provider."""
        metadata = await self._metadata.get()
        parameters = self._parameters.authorization(asked.resource)
        parameters["redirect_uri"] = asked.redirect_uri
        parameters["code_challenge"] = asked.code_challenge
        if asked.scope is not None:
            parameters["scope"] = asked.scope
        if asked.state is not None:
            parameters["state"] = asked.state
        location = add_to_query(metadata.authorization_endpoint or "", parameters)
        return Answer(AuthorizationOutcome.REDIRECTED_TO_IDP, found(location), family_of(asked.client))

    def redirects_errors(self, client: Client, redirect_uri: str, request: Request) -> bool:  # noqa: ARG002 - consent is not asked for here
        """Whether the operator registered the client."""
        return client.preregistered

    async def redeem(self, presented: CodeRequest) -> TokenMembers:
        """Exchange the identity provider's code, which it checks with the client's verifier and redirect_uri."""
        parameters = {
            "code": presented.code,
            "code_verifier": presented.code_verifier,
            "redirect_uri": presented.redirect_uri,
        }
        return await self._exchange(GrantType.AUTHORIZATION_CODE, parameters, presented.resource)

    async def refresh(self, presented: RefreshRequest) -> TokenMembers:
        """Exchange the identity provider's refresh token; it knows what the scope may be narrowed to."""
        parameters = {"refresh_token": presented.refresh_token, "scope": presented.scope}
        return await self._exchange(GrantType.REFRESH_TOKEN, parameters, presented.resource)

    async def revoke(self, token: str, token_type_hint: str | None, client: Client) -> None:  # noqa: ARG002 - only the identity provider knows whose token it is
        """Pass the revocation on."""
        metadata = await self._metadata.get()
        parameters = _without_none({"token": token, "token_type_hint": token_type_hint})
        await self._identity_provider.revoke(metadata.revocation_endpoint or "", parameters)

    async def _exchange(
        self, grant_type: GrantType, presented: dict[str, str | None], resource: str | None
    ) -> TokenMembers:
        metadata = await self._metadata.get()
        parameters = {**_without_none(presented), **self._parameters.resource(resource)}
        tokens = await self._identity_provider.exchange(metadata.token_endpoint or "", grant_type, parameters)
        return tokens.members


def _without_none(parameters: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}
