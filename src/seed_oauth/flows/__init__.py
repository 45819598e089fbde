"""The two ways from a client to the identity provider and back: `relay` and `broker`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from starlette.requests import Request

from seed_oauth.clients import Client
from seed_oauth.http.answer import Answer


class AuthorizationRequest(NamedTuple):
    """What a client asks for at the authorization endpoint, after every check."""

    client: Client
    redirect_uri: str
    state: str | None
    code_challenge: str
    scope: str | None
    resource: str | None
    """One of the protected resources, as configured."""


class CodeRequest(NamedTuple):
    """What a client presents to have a code exchanged (RFC 6749 §4.1.3, RFC 7636 §4.5)."""

    client: Client
    code: str
    code_verifier: str
    code_challenge: str
    """That of the code_verifier."""
    redirect_uri: str | None
    resource: str | None


class RefreshRequest(NamedTuple):
    """What a client presents to have tokens refreshed (RFC 6749 §6)."""

    client: Client
    refresh_token: str
    scope: str | None
    resource: str | None


TokenMembers = Mapping[str, object]
"""The members of a successful token response (RFC 6749 §5.1)."""


class IdpParameters:
    """The parameters that every request to the identity provider carries, as the operator has set them."""

    def __init__(
        self,
        client_id: str,
        *,
        default_resource: str,
        send_resource: bool = True,
        authorization: Mapping[str, str] | None = None,
        resource_names: tuple[str, ...] = (),
    ) -> None:
        """Of the parameters for the authorization endpoint, those in `resource_names` have the resource as value.

        `default_resource` is the resource of a client that names none; `send_resource` passes `resource` on (RFC 8707).
        """
        self.default_resource = default_resource
        self._send_resource = send_resource
        self._resource_names = resource_names
        self._authorization = {
            **(authorization or {}),
            "response_type": "code",
            "client_id": client_id,
            "code_challenge_method": "S256",
        }

    def authorization(self, resource: str | None) -> dict[str, str]:
        """Those of an authorization request."""
        parameters = self._authorization.copy()
        for name in self._resource_names:
            parameters[name] = resource or self.default_resource
        return parameters | self.resource(resource)

    def login(
        self,
        resource: str | None,
        scopes: Sequence[str],
        *,
        redirect_uri: str,
        state: str,
        code_challenge: str,
        nonce: str,
    ) -> dict[str, str]:
        """Those of the authorization request of the broker flow; the doctor sends the same."""
        own = {
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": code_challenge,
            "scope": " ".join(scopes),
            # OpenID Connect Core §3.1.2.1: there is an ID token to repeat it only where openid is requested.
            "nonce": nonce if "openid" in scopes else "",
        }
        return {**self.authorization(resource), **{name: value for name, value in own.items() if value}}

    def resource(self, resource: str | None) -> dict[str, str]:
        """The parameter `resource`, where it is passed on (RFC 8707 §2)."""
        return {"resource": resource} if self._send_resource and resource is not None else {}


class Flow(Protocol):
    """What the endpoints leave to the flow.

    All methods raise `IdentityProviderError` when the identity provider does not answer as it should. All but `begin`
    raise `OAuthError` when the client's request cannot succeed.
    """

    async def begin(self, asked: AuthorizationRequest, request: Request) -> Answer:
        """Answer an authorization request that has passed every check."""
        ...

    def redirects_errors(self, client: Client, redirect_uri: str, request: Request) -> bool:
        """Whether an authorization error may send the browser to the client's redirect_uri by itself.

        Anybody can register a client and lead people to it with a link that fails. So not before the operator or
        the user has trusted the client (RFC 9700 §4.11.2).
        """
        ...

    async def redeem(self, presented: CodeRequest) -> TokenMembers:
        """Exchange a code."""
        ...

    async def refresh(self, presented: RefreshRequest) -> TokenMembers:
        """Exchange a refresh token."""
        ...

    async def revoke(self, token: str, token_type_hint: str | None, client: Client) -> None:
        """Revoke a token; one that is unknown is as good as revoked (RFC 7009 §2.2)."""
        ...
