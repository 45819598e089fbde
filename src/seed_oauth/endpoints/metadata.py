"""The documents by which clients find the way: RFC 8414 and RFC 9728. They say only what is served."""

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.http.answer import PUBLIC, json_response
from seed_oauth.outcomes import GrantType
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS
from seed_oauth.protocol.resource import metadata_path
from seed_oauth.settings import Settings

_AUTH_METHODS = ["none", "client_secret_post", "client_secret_basic"]


class Document:
    """A JSON document that is the same for everyone."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self._content = content

    async def __call__(self, _: Request) -> Response:
        """The document."""
        return json_response(self._content, 200, PUBLIC)


def authorization_server_metadata(settings: Settings) -> Document:
    """Authorization server metadata (RFC 8414 §2).

    `authorization_response_iss_parameter_supported` is not claimed by the relay flow: there the identity
    provider answers the client directly, without our `iss`, and a client that was promised one must refuse
    such an answer (RFC 9207 §2.4). In the broker flow every answer is ours.
    """
    content: dict[str, object] = {
        "issuer": settings.issuer,
        "authorization_endpoint": f"{settings.issuer}/oauth/authorize",
        "token_endpoint": f"{settings.issuer}/oauth/token",
        "registration_endpoint": f"{settings.issuer}/oauth/register",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GrantType),
        "code_challenge_methods_supported": ["S256"],
        **_client_authentication(settings, "token"),
        "authorization_response_iss_parameter_supported": settings.flow == "broker",
    }
    if settings.advertised_scopes:
        content["scopes_supported"] = settings.advertised_scopes
    if settings.can_revoke:
        content["revocation_endpoint"] = f"{settings.issuer}/oauth/revoke"
        content |= _client_authentication(settings, "revocation")
    if settings.client_id_metadata_documents:
        content["client_id_metadata_document_supported"] = True
    return Document(content)


def _client_authentication(settings: Settings, endpoint: str) -> dict[str, object]:
    """How clients authenticate at an endpoint; by private_key_jwt only where any can have keys."""
    methods = f"{endpoint}_endpoint_auth_methods_supported"
    if not settings.client_id_metadata_documents and not any(client.jwks for client in settings.clients):
        return {methods: _AUTH_METHODS}
    return {
        methods: [*_AUTH_METHODS, "private_key_jwt"],
        f"{endpoint}_endpoint_auth_signing_alg_values_supported": SIGNING_ALGORITHMS,
    }


def protected_resource_metadata(settings: Settings, resource: str, scopes: Sequence[str]) -> Document:
    """Protected resource metadata (RFC 9728 §2) of one MCP server behind this door."""
    content: dict[str, object] = {
        "resource": resource,
        "authorization_servers": [settings.issuer],
        "bearer_methods_supported": ["header"],
    }
    if scopes:
        content["scopes_supported"] = scopes
    return Document(content)


def documents(settings: Settings) -> dict[str, Document]:
    """Every well-known path and its document.

    For an issuer with a path the path comes after the well-known part (RFC 8414 §3.1); the plain form
    serves a reverse proxy that strips the path. For OpenID Connect clients it comes before, too.
    """
    server = authorization_server_metadata(settings)
    path = settings.issuer_path
    found = {}
    for name in ("oauth-authorization-server", "openid-configuration"):
        found[f"/.well-known/{name}"] = found[f"/.well-known/{name}{path}"] = server
    found[f"{path}/.well-known/openid-configuration"] = server
    for resource in reversed(settings.protected_resources):
        document = protected_resource_metadata(settings, resource, settings.advertised_scopes)
        # The first resource is also the one that a client finds who only knows the host (RFC 9728 §3.1).
        found["/.well-known/oauth-protected-resource"] = document
        found[metadata_path(resource)] = document
    return found
