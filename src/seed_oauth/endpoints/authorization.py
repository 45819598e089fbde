"""`/oauth/authorize`: check what the client asks for, then have the flow answer it."""

from collections.abc import Mapping

from starlette.requests import Request

from seed_oauth.clients import BadClientDocumentError, Client, ClientDocumentUnavailableError, ClientStore
from seed_oauth.clients.family import family_of
from seed_oauth.errors import OAuthError, StoreError
from seed_oauth.flows import AuthorizationRequest, Flow
from seed_oauth.http.answer import Answer
from seed_oauth.http.parameters import parse_form, read_form
from seed_oauth.http.requested_resource import ProtectedResources
from seed_oauth.identity_provider.client import IdentityProviderError
from seed_oauth.outcomes import AuthorizationOutcome
from seed_oauth.protocol import pkce, redirect_uri, scope
from seed_oauth.settings import Settings


class AuthorizationEndpoint:
    """The authorization endpoint (RFC 6749 §4.1.1, OAuth 2.1 §4.1.1).

    The order of the checks decides which row is counted. How an error is delivered is another question:
    as soon as client and redirect_uri are known to be good it goes back to the client by redirect, until
    then it stays here (RFC 6749 §4.1.2.1).
    """

    def __init__(self, settings: Settings, clients: ClientStore, flow: Flow) -> None:
        self._configured = settings.can_authorize
        self._clients = clients
        self._flow = flow
        self._resources = ProtectedResources(settings.protected_resources)

    async def __call__(self, request: Request) -> Answer:
        """Answer one authorization request.

        Raises:
            OAuthError: any row of `AuthorizationOutcome` but the successful ones.
        """
        parameters = parse_form(request.scope["query_string"]) if request.method == "GET" else await read_form(request)
        client, refusal = await self._identify(parameters)
        try:
            return await self._flow.begin(self._checked(parameters, client, refusal), request)
        except IdentityProviderError as failure:
            error = OAuthError(
                AuthorizationOutcome.IDP_UNAVAILABLE, "the identity provider cannot be reached, try again"
            )
            raise _delivered(error, parameters, client, refusal) from failure
        except OAuthError as error:
            raise _delivered(error, parameters, client, refusal) from error.__cause__

    def _checked(
        self, parameters: Mapping[str, str], client: Client | None, refusal: OAuthError | None
    ) -> AuthorizationRequest:
        """What is asked for, after every check in the order of the table."""
        if not self._configured:
            raise OAuthError(
                AuthorizationOutcome.NOT_CONFIGURED,
                "this server is not connected to an identity provider yet: its operator finds what is "
                "missing at /readyz",
            )
        _check_code_challenge(parameters)
        if refusal is not None:
            raise refusal
        assert client is not None  # noqa: S101 - or there would be a refusal
        _check_response_type(parameters)
        _check_scope(parameters)
        return AuthorizationRequest(
            client=client,
            redirect_uri=parameters["redirect_uri"],
            state=parameters.get("state"),
            code_challenge=parameters["code_challenge"],
            scope=parameters.get("scope"),
            resource=self._resources.named(parameters.get("resource"), AuthorizationOutcome.BAD_RESOURCE),
        )

    async def _identify(self, parameters: Mapping[str, str]) -> tuple[Client | None, OAuthError | None]:
        """The client, and why nothing may be sent to the redirect_uri (None when it is the client's own).

        The refusal is returned, not raised: the checks that come before in the table are still to be made.
        """
        client_id = parameters.get("client_id", "")
        try:
            client = await self._clients.get(client_id) if client_id else None
        except BadClientDocumentError as bad:
            return None, OAuthError(AuthorizationOutcome.BAD_CLIENT_DOCUMENT, f"the document at this client_id {bad}")
        except ClientDocumentUnavailableError as trouble:
            return None, OAuthError(
                AuthorizationOutcome.CLIENT_DOCUMENT_UNAVAILABLE,
                f"the document at this client_id {trouble}, try again in a minute",
            )
        except StoreError:
            return None, OAuthError(
                AuthorizationOutcome.CLIENT_LOOKUP_FAILED,
                "clients cannot be looked up at the moment, try again in a few seconds",
            )
        if client is None:
            return None, _unknown_client()
        if not redirect_uri.is_registered(parameters.get("redirect_uri", ""), client.redirect_uris):
            return client, OAuthError(
                AuthorizationOutcome.BAD_REDIRECT_URI,
                "redirect_uri must be one of those registered for this client, character by character "
                "(on a loopback address the port may differ)",
            )
        return client, None


def _unknown_client() -> OAuthError:
    return OAuthError(
        AuthorizationOutcome.UNKNOWN_CLIENT,
        "this client_id is not registered here (any more): remove the connection in your application "
        "and connect again, so that it registers anew",
    )


def _delivered(
    error: OAuthError, parameters: Mapping[str, str], client: Client | None, refusal: OAuthError | None
) -> OAuthError:
    """The error on its way to where it may go: to the client as soon as client and redirect_uri are good."""
    if client is not None:
        error.client_family = family_of(client)
    if refusal is None:
        error.sent_to(parameters["redirect_uri"], parameters.get("state"))
    return error


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
