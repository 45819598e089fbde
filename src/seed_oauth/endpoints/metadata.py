"""The documents by which clients discover this server (RFC 8414, RFC 9728). They only announce what is served."""

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.http import paths
from seed_oauth.http.answer import PUBLIC, json_response
from seed_oauth.outcomes import GrantType
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS

_AUTH_METHODS = ["none", "client_secret_post", "client_secret_basic"]


class Document:
    """A JSON document that is the same for everyone."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self._content = content

    async def __call__(self, _: Request) -> Response:
        """The document."""
        return json_response(self._content, 200, PUBLIC)


def authorization_server_metadata(
    issuer: str,
    *,
    flow: str,
    scopes: Sequence[str],
    revocation: bool,
    introspection: bool,
    signing_keys: bool,
    registration: str,
    client_documents: bool,
    client_keys: bool,
    contact: str | None = None,
) -> Document:
    """Authorization server metadata (RFC 8414 §2).

    `authorization_response_iss_parameter_supported` is false in the relay flow: there the identity provider
    answers the client directly, without our `iss`, and a client that was promised one must refuse such an
    answer (RFC 9207 §2.4). In the broker flow every answer is ours.

    `registration` is `open`, `token` or `off`. `client_documents`: a client_id may be the URL of a Client ID Metadata
    Document. `client_keys`: clients may have keys, and authenticate by private_key_jwt. `contact`: whom users ask to
    allow a client; if it is an https URL, it is the `service_documentation`.
    """
    content: dict[str, object] = {
        "issuer": issuer,
        "authorization_endpoint": paths.url(issuer, paths.AUTHORIZE),
        "token_endpoint": paths.url(issuer, paths.TOKEN),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GrantType),
        "code_challenge_methods_supported": ["S256"],
        **_client_authentication("token", client_keys),
        "authorization_response_iss_parameter_supported": flow == "broker",
    }
    if registration != "off":
        content["registration_endpoint"] = paths.url(issuer, paths.REGISTER)
    if registration == "token":
        # RFC 8414 has no member for that, and allows others: a client that knows this one need not try.
        content["initial_access_token_required"] = True
    if contact and contact.startswith("https://"):
        content["service_documentation"] = contact
    if scopes:
        content["scopes_supported"] = scopes
    if revocation:
        content["revocation_endpoint"] = paths.url(issuer, paths.REVOKE)
        content |= _client_authentication("revocation", client_keys)
    if introspection:
        content["introspection_endpoint"] = paths.url(issuer, paths.INTROSPECT)
        content["introspection_endpoint_auth_methods_supported"] = ["client_secret_basic", "client_secret_post"]
    if signing_keys:
        content["jwks_uri"] = paths.url(issuer, paths.JWKS)
    if client_documents:
        content["client_id_metadata_document_supported"] = True
    return Document(content)


def _client_authentication(endpoint: str, client_keys: bool) -> dict[str, object]:
    """How clients authenticate at an endpoint."""
    methods = f"{endpoint}_endpoint_auth_methods_supported"
    if not client_keys:
        return {methods: _AUTH_METHODS}
    return {
        methods: [*_AUTH_METHODS, "private_key_jwt"],
        f"{endpoint}_endpoint_auth_signing_alg_values_supported": SIGNING_ALGORITHMS,
    }


def protected_resource_metadata(issuer: str, resource: str, scopes: Sequence[str]) -> Document:
    """Protected resource metadata (RFC 9728 §2) of one MCP server; `issuer` is its authorization server."""
    content: dict[str, object] = {
        "resource": resource,
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
    }
    if scopes:
        content["scopes_supported"] = scopes
    return Document(content)


def documents(issuer: str, server: Document, resources: Mapping[str, Sequence[str]]) -> dict[str, Document]:
    """Every well-known path and its document: the authorization server's, and each protected resource's with scopes."""
    found = dict.fromkeys(paths.server_metadata_paths(issuer), server)
    for resource, scopes in reversed([*resources.items()]):
        document = protected_resource_metadata(issuer, resource, scopes)
        # A client that only knows the host finds the first resource (RFC 9728 §3.1).
        found[paths.RESOURCE_METADATA] = found[paths.resource_metadata_path(resource)] = document
    # Some clients append the path of a resource as they know it, with its slash.
    return found | {f"{path}/": document for path, document in found.items()}
