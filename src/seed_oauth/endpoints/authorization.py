"""`/oauth/authorize`: check what the client asks for, then let the flow answer."""

from collections.abc import Mapping

from starlette.requests import Request

from seed_oauth.clients import (
    BadClientDocumentError,
    Client,
    ClientDocumentUnavailableError,
    ClientNotAllowedError,
    ClientStore,
)
from seed_oauth.clients.family import family_of
from seed_oauth.clients.policy import ALLOW_ALL, ClientPolicy
from seed_oauth.flows import AuthorizationRequest, Flow
from seed_oauth.flows.transaction import flow_id
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer
from seed_oauth.http.parameters import parse_form, read_form
from seed_oauth.http.requested_resource import UNKNOWN_RESOURCE, ProtectedResources
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.outcomes import AuthorizationOutcome
from seed_oauth.outcomes.errors import BAD_SCOPE, NOT_CONFIGURED, OAuthError, Recipient, StoreError
from seed_oauth.protocol import pkce, redirect_uri, scope

Parameters = Mapping[str, str]
Refusal = tuple[AuthorizationOutcome, str]
"""A row of the table, and what the client is told."""

_UNKNOWN_CLIENT = (
    "this application is not registered here (any more): remove the connection in your application and connect again, "
    "so that it registers again"
)
_BAD_REDIRECT_URI = (
    "redirect_uri must be one of those registered for this client, character by character "
    "(on a loopback address the port may differ)"
)


class AuthorizationEndpoint:
    """The authorization endpoint (RFC 6749 §4.1.1, OAuth 2.1 §4.1.1)."""

    def __init__(
        self,
        issuer: str,
        clients: ClientStore,
        flow: Flow,
        resources: ProtectedResources,
        policy: ClientPolicy = ALLOW_ALL,
        *,
        configured: bool,
    ) -> None:
        """`configured` tells whether there is an identity provider to send browsers to."""
        self._issuer = issuer
        self._clients = clients
        self._policy = policy
        self._flow = flow
        self._resources = resources
        self._configured = configured

    async def __call__(self, request: Request) -> Answer:
        """Answer one authorization request.

        The order of the checks decides which row is counted. Delivery is another question: an error goes to the client
        as soon as client and redirect_uri are known to be good, and is shown here until then (RFC 6749 §4.1.2.1).

        Raises:
            OAuthError: any row of `AuthorizationOutcome` but the successful ones.
        """
        parameters = parse_form(request.scope["query_string"]) if request.method == "GET" else await read_form(request)
        client_id, code_challenge = parameters.get("client_id", ""), parameters.get("code_challenge", "")
        log_fields.note(client_id=client_id, flow_id=flow_id(client_id, code_challenge) if code_challenge else None)
        client, bad_client = await self._identify(parameters)
        if refusal := self._refusal(parameters, client, bad_client):
            raise self._error(refusal, parameters, client, bad_client, request)
        assert client is not None  # noqa: S101 - or there would be a refusal
        try:
            return await self._flow.begin(self._asked(parameters, client), request)
        except IdentityProviderError as failure:
            refusal = AuthorizationOutcome.IDP_UNAVAILABLE, "the identity provider cannot be reached: try again"
            raise self._error(refusal, parameters, client, bad_client, request) from failure

    def _refusal(self, parameters: Parameters, client: Client | None, bad_client: Refusal | None) -> Refusal | None:
        """The first check that fails, in the order of the table."""
        if not self._configured:
            return AuthorizationOutcome.NOT_CONFIGURED, NOT_CONFIGURED
        return (
            _bad_code_challenge(parameters)
            or bad_client
            or _bad_response_type(parameters)
            or _bad_scope(parameters, client)
            or self._bad_resource(parameters)
        )

    def _error(
        self,
        refusal: Refusal,
        parameters: Parameters,
        client: Client | None,
        bad_client: Refusal | None,
        request: Request,
    ) -> OAuthError:
        if client is None:
            return OAuthError(*refusal)
        recipient = None
        if not bad_client:
            uri = parameters["redirect_uri"]
            recipient = Recipient(uri, parameters.get("state"), self._flow.redirects_errors(client, uri, request))
        return OAuthError(*refusal, recipient=recipient, client_family=family_of(client))

    def _bad_resource(self, parameters: Parameters) -> Refusal | None:
        if "resource" in parameters and self._resources.find(parameters["resource"]) is None:
            return AuthorizationOutcome.BAD_RESOURCE, UNKNOWN_RESOURCE
        return None

    def _asked(self, parameters: Parameters, client: Client) -> AuthorizationRequest:
        return AuthorizationRequest(
            client=client,
            redirect_uri=parameters["redirect_uri"],
            state=parameters.get("state"),
            code_challenge=parameters["code_challenge"],
            scope=parameters.get("scope", client.scope),
            resource=self._resources.find(parameters.get("resource")),
        )

    async def _identify(self, parameters: Parameters) -> tuple[Client | None, Refusal | None]:
        """The client, and why nothing may be sent to the redirect_uri (None when it is the client's own).

        The refusal is returned, not raised: checks that come before it in the table are still to be made.
        """
        client_id = parameters.get("client_id", "")
        try:
            client = await self._clients.get(client_id) if client_id else None
        except ClientNotAllowedError as refused:
            return None, (AuthorizationOutcome.CLIENT_NOT_ALLOWED, f"the document at this client_id {refused}")
        except BadClientDocumentError as bad:
            return None, (AuthorizationOutcome.BAD_CLIENT_DOCUMENT, f"the document at this client_id {bad}")
        except ClientDocumentUnavailableError as trouble:
            return None, (
                AuthorizationOutcome.CLIENT_DOCUMENT_UNAVAILABLE,
                f"the document at this client_id {trouble}: try again in a minute",
            )
        except StoreError:
            return None, (
                AuthorizationOutcome.CLIENT_LOOKUP_FAILED,
                "clients cannot be looked up at the moment: try again in a few seconds",
            )
        if client is None:
            return None, (
                AuthorizationOutcome.UNKNOWN_CLIENT,
                _UNKNOWN_CLIENT,
            )
        uri = parameters.get("redirect_uri", "")
        # On loopback the port may differ from the registered one, but it cannot be ours.
        if not redirect_uri.is_registered(uri, client.redirect_uris) or (
            uri not in client.redirect_uris and redirect_uri.is_at(uri, self._issuer)
        ):
            return client, (
                AuthorizationOutcome.BAD_REDIRECT_URI,
                _BAD_REDIRECT_URI,
            )
        if not client.preregistered and (objection := self._policy.redirect_objection(parameters["redirect_uri"])):
            # It was registered before the operator decided.
            return client, (AuthorizationOutcome.CLIENT_NOT_ALLOWED, f"redirect_uri {objection}")
        return client, None


def _bad_code_challenge(parameters: Parameters) -> Refusal | None:
    # RFC 7636 §4.3: a missing method means plain, which OAuth 2.1 §7.5.2 and MCP Authorization do not allow.
    if parameters.get("code_challenge_method") != "S256":
        return AuthorizationOutcome.BAD_CODE_CHALLENGE_METHOD, "code_challenge_method must be S256 (PKCE is required)"
    code_challenge = parameters.get("code_challenge", "")
    # RFC 7636 §4.2
    if not pkce.has_valid_length(code_challenge):
        return AuthorizationOutcome.BAD_CODE_CHALLENGE_LENGTH, "code_challenge must be 43 to 128 characters long"
    if not pkce.has_valid_format(code_challenge):
        return (
            AuthorizationOutcome.BAD_CODE_CHALLENGE_FORMAT,
            "code_challenge may only contain the characters A-Z a-z 0-9 - . _ ~",
        )
    return None


def _bad_response_type(parameters: Parameters) -> Refusal | None:
    response_type = parameters.get("response_type")
    # RFC 6749 §3.1.1
    if response_type is None:
        return AuthorizationOutcome.MISSING_RESPONSE_TYPE, "response_type is missing: send code"
    if response_type != "code":
        return AuthorizationOutcome.UNSUPPORTED_RESPONSE_TYPE, "response_type must be code"
    return None


def _bad_scope(parameters: Parameters, client: Client | None) -> Refusal | None:
    asked = parameters.get("scope")
    if asked is None:
        return None
    if not scope.is_valid(asked):
        return AuthorizationOutcome.BAD_SCOPE, BAD_SCOPE
    # Clients ask for offline_access by themselves; it is no scope of the MCP server.
    if client and client.scope is not None and set(asked.split()) - {"offline_access", *client.scope.split()}:
        return AuthorizationOutcome.BAD_SCOPE, "scope must not exceed what this client is registered for"
    return None
