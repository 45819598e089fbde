"""`/oauth/authorize`: check what the client asks for, then send the browser to the identity provider."""

from collections.abc import Mapping

from starlette.requests import Request

from seed_oauth import pkce, redirect_uri, resource, scope
from seed_oauth.answer import Answer, found
from seed_oauth.clients import Client, ClientStore, StoreError
from seed_oauth.errors import OAuthError
from seed_oauth.outcomes import AuthorizationOutcome
from seed_oauth.parameters import add_to_query, parse_form, read_form
from seed_oauth.settings import Settings


class AuthorizationEndpoint:
    """The authorization endpoint of the relay flow (RFC 6749 §4.1.1, OAuth 2.1 §4.1.1).

    The order of the checks decides which row is counted. How an error is delivered is another question:
    as soon as client and redirect_uri are known to be good it goes back to the client by redirect, until
    then it stays here (RFC 6749 §4.1.2.1).
    """

    def __init__(self, settings: Settings, clients: ClientStore) -> None:
        self._clients = clients
        self._resources = resource.by_canonical_form(settings.protected_resources)
        self._send_resource = settings.idp_send_resource
        self._idp_request = _fixed_part_of_idp_request(settings)

    async def __call__(self, request: Request) -> Answer:
        """Answer one authorization request.

        Raises:
            OAuthError: any row of `AuthorizationOutcome` but the successful one.
        """
        parameters = parse_form(request.scope["query_string"]) if request.method == "GET" else await read_form(request)
        client, refusal = await self._identify(parameters)
        try:
            location = self._location(parameters, refusal)
        except OAuthError as error:
            error.client = client
            if refusal is None:
                error.sent_to(parameters["redirect_uri"], parameters.get("state"))
            raise
        return Answer(AuthorizationOutcome.REDIRECTED_TO_IDP, found(location), client)

    def _location(self, parameters: Mapping[str, str], refusal: OAuthError | None) -> str:
        """Where to send the browser, after every check in the order of the table."""
        if self._idp_request is None:
            raise OAuthError(
                AuthorizationOutcome.NOT_CONFIGURED,
                "this server is not connected to an identity provider yet: its operator finds what is "
                "missing at /readyz",
            )
        _check_code_challenge(parameters)
        if refusal is not None:
            raise refusal
        _check_response_type(parameters)
        _check_scope(parameters)
        return add_to_query(self._idp_request, self._variable_part_of_idp_request(parameters))

    async def _identify(self, parameters: Mapping[str, str]) -> tuple[Client | None, OAuthError | None]:
        """The client, and why nothing may be sent to the redirect_uri (None when it is the client's own).

        The refusal is returned, not raised: the checks that come before in the table are still to be made.
        """
        client_id = parameters.get("client_id", "")
        try:
            client = await self._clients.get(client_id) if client_id else None
        except StoreError:
            return None, OAuthError(
                AuthorizationOutcome.CLIENT_LOOKUP_FAILED,
                "clients cannot be looked up at the moment, try again in a few seconds",
            )
        if client is None:
            return None, OAuthError(
                AuthorizationOutcome.UNKNOWN_CLIENT,
                "this client_id is not registered here (any more): remove the connection in your application "
                "and connect again, so that it registers anew",
            )
        if not redirect_uri.is_registered(parameters.get("redirect_uri", ""), client.redirect_uris):
            return client, OAuthError(
                AuthorizationOutcome.BAD_REDIRECT_URI,
                "redirect_uri must be one of those registered for this client, character by character "
                "(on a loopback address the port may differ)",
            )
        return client, None

    def _variable_part_of_idp_request(self, parameters: Mapping[str, str]) -> dict[str, str]:
        passed_on = ("redirect_uri", "scope", "state", "code_challenge")
        variable = {name: parameters[name] for name in passed_on if name in parameters}
        if "resource" in parameters:
            protected = self._resources.get(resource.canonical(parameters["resource"]))
            if protected is None:
                raise OAuthError(
                    AuthorizationOutcome.BAD_RESOURCE,
                    "resource is not protected by this server: take it from the protected resource metadata",
                )
            if self._send_resource:
                variable["resource"] = protected
        return variable


def _fixed_part_of_idp_request(settings: Settings) -> str | None:
    """The IdP's authorization URL with its own query and all that is the same for every request."""
    if settings.idp_authorization_url is None or settings.idp_client_id is None:
        return None
    return add_to_query(
        settings.idp_authorization_url,
        {
            **settings.idp_authorization_parameters,
            "response_type": "code",
            "client_id": settings.idp_client_id,
            "code_challenge_method": "S256",
        },
    )


def _check_code_challenge(parameters: Mapping[str, str]) -> None:
    # RFC 7636 §4.3: a missing method means plain, which OAuth 2.1 §7.5.2 and MCP do not allow.
    if parameters.get("code_challenge_method") != "S256":
        raise OAuthError(
            AuthorizationOutcome.BAD_CODE_CHALLENGE_METHOD,
            "code_challenge_method must be S256 (PKCE is required)",
        )
    code_challenge = parameters.get("code_challenge", "")
    # RFC 7636 §4.2
    if not pkce.has_valid_length(code_challenge):
        raise OAuthError(
            AuthorizationOutcome.BAD_CODE_CHALLENGE_LENGTH, "code_challenge must be 43 to 128 characters long"
        )
    if not pkce.has_valid_format(code_challenge):
        raise OAuthError(
            AuthorizationOutcome.BAD_CODE_CHALLENGE_FORMAT,
            "code_challenge must consist of the characters A-Z a-z 0-9 - . _ ~ only",
        )


def _check_response_type(parameters: Mapping[str, str]) -> None:
    response_type = parameters.get("response_type")
    # RFC 6749 §3.1.1
    if response_type is None:
        raise OAuthError(AuthorizationOutcome.MISSING_RESPONSE_TYPE, "response_type is missing: send code")
    if response_type != "code":
        raise OAuthError(AuthorizationOutcome.UNSUPPORTED_RESPONSE_TYPE, "response_type must be code")


def _check_scope(parameters: Mapping[str, str]) -> None:
    if "scope" in parameters and not scope.is_valid(parameters["scope"]):
        raise OAuthError(AuthorizationOutcome.BAD_SCOPE, "scope must be a list of names with single spaces between")
