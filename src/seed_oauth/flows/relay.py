"""The relay flow: the client's own redirect_uri, state and PKCE pair go to the identity provider.

The code, the verifier and the redirect_uri are bound together there, so the door keeps and seals nothing.
It is for identity providers that accept the clients' redirect URIs.
"""

from starlette.requests import Request

from seed_oauth.clients import Client
from seed_oauth.clients.family import family_of
from seed_oauth.flows import AuthorizationRequest, CodeRequest, RefreshRequest, TokenMembers
from seed_oauth.http.answer import Answer, found
from seed_oauth.http.parameters import add_to_query
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import AuthorizationOutcome, GrantType
from seed_oauth.settings import Settings


class RelayFlow:
    """A `Flow` that puts the door's client credentials in the place of the client's, and nothing else."""

    def __init__(self, settings: Settings, metadata: MetadataSource, identity_provider: IdentityProvider) -> None:
        self._metadata = metadata
        self._identity_provider = identity_provider
        self._send_resource = settings.idp_send_resource
        self._default_resource = settings.protected_resources[0]
        self._resource_parameters = settings.idp_resource_parameters
        self._fixed_parameters = {
            **settings.idp_authorization_parameters,
            "response_type": "code",
            "client_id": settings.idp_client_id or "",
            "code_challenge_method": "S256",
        }

    async def begin(self, asked: AuthorizationRequest, request: Request) -> Answer:  # noqa: ARG002 - the browser plays no part
        """Send the browser to the identity provider."""
        metadata = await self._metadata.get()
        parameters = {
            "redirect_uri": asked.redirect_uri,
            "scope": asked.scope,
            "state": asked.state,
            "code_challenge": asked.code_challenge,
            "resource": asked.resource if self._send_resource else None,
            **dict.fromkeys(self._resource_parameters, asked.resource or self._default_resource),
        }
        location = add_to_query(
            metadata.authorization_endpoint or "", {**self._fixed_parameters, **_without_none(parameters)}
        )
        return Answer(AuthorizationOutcome.REDIRECTED_TO_IDP, found(location), family_of(asked.client))

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

    async def revoke(self, token: str, token_type_hint: str | None, client: Client) -> None:  # noqa: ARG002 - it is not ours to tell whose token it is
        """Pass the revocation on."""
        metadata = await self._metadata.get()
        parameters = _without_none({"token": token, "token_type_hint": token_type_hint})
        await self._identity_provider.revoke(metadata.revocation_endpoint or "", parameters)

    async def _exchange(
        self, grant_type: GrantType, parameters: dict[str, str | None], resource: str | None
    ) -> TokenMembers:
        metadata = await self._metadata.get()
        parameters["resource"] = resource if self._send_resource else None
        tokens = await self._identity_provider.exchange(
            metadata.token_endpoint or "", grant_type, _without_none(parameters)
        )
        return tokens.members


def _without_none(parameters: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}
