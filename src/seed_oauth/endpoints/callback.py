"""`/oauth/callback`: the identity provider sends the browser back, and the door sends it on to the client."""

from collections.abc import Callable, Mapping
from time import time

from starlette.requests import Request

from seed_oauth.envelopes.seal import ExpiredError, SealError
from seed_oauth.errors import OAuthError
from seed_oauth.flows.browser_cookies import BrowserCookies
from seed_oauth.flows.transaction import Code, IdpLogin
from seed_oauth.http.answer import Answer, found
from seed_oauth.http.parameters import add_to_query, parse_form
from seed_oauth.identity_provider.client import IdentityProviderError
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import CallbackOutcome, ClientFamily
from seed_oauth.settings import Settings

_DENIED = (CallbackOutcome.DENIED, "the login was not completed at the identity provider")
_REFUSED = (
    CallbackOutcome.IDP_REFUSED,
    "the identity provider refused this server's request: its operator has to look",
)
_FAILED = (CallbackOutcome.IDP_FAILED, "the identity provider has a problem, try again")

_ERRORS = {
    # RFC 6749 §4.1.2.1
    "access_denied": _DENIED,
    "invalid_scope": (CallbackOutcome.IDP_INVALID_SCOPE, "the identity provider does not know one of the scopes"),
    "server_error": _FAILED,
    "temporarily_unavailable": _FAILED,
    # RFC 8707 §2
    "invalid_target": (CallbackOutcome.IDP_INVALID_TARGET, "the identity provider does not know this resource"),
    # OpenID Connect Core §3.1.2.6: the user would have had to do something.
    "login_required": _DENIED,
    "consent_required": _DENIED,
    "interaction_required": _DENIED,
    "account_selection_required": _DENIED,
}
"""What the identity provider's `error` means for the client. Any other means that it refuses us."""


class CallbackEndpoint:
    """The one redirect URI that the identity provider knows (RFC 6749 §4.1.2)."""

    def __init__(self, settings: Settings, metadata: MetadataSource, now: Callable[[], float] = time) -> None:
        """`now` counts seconds since the epoch."""
        self._settings = settings
        self._metadata = metadata
        self._now = now

    async def __call__(self, request: Request) -> Answer:
        """Answer one return from the identity provider.

        Raises:
            OAuthError: any row of `CallbackOutcome` but the successful one.
        """
        parameters = parse_form(request.scope["query_string"])
        login = self._login(parameters)
        begun, family = login.transaction, ClientFamily(login.transaction.client_family)
        BrowserCookies(self._settings, request).check_bound_by(begun.browser, CallbackOutcome.OTHER_BROWSER, family)
        await self._check_issuer(parameters)
        try:
            code = Code.of(login, _idp_code(parameters)).sealed(self._settings.sealer, self._now())
        except OAuthError as error:
            error.client_family = family
            raise error.sent_to(begun.redirect_uri, begun.state) from None
        answer = {"code": code} | ({"state": begun.state} if begun.state is not None else {})
        # RFC 9207 §2
        location = add_to_query(begun.redirect_uri, {**answer, "iss": self._settings.issuer})
        waited = max(self._now() - login.begun_at, 0.0)
        return Answer(CallbackOutcome.RETURNED, found(location), family, waited)

    def _login(self, parameters: Mapping[str, str]) -> IdpLogin:
        try:
            return IdpLogin.returned(self._settings.sealer, parameters.get("state", ""), self._now())
        except ExpiredError:
            raise OAuthError(
                CallbackOutcome.EXPIRED, "the login took too long: connect again from your application"
            ) from None
        except SealError:
            raise OAuthError(
                CallbackOutcome.BAD_STATE, "this login was not begun here: connect again from your application"
            ) from None

    async def _check_issuer(self, parameters: Mapping[str, str]) -> None:
        """RFC 9207 §2.4: an answer of another authorization server than the one that was asked is not taken."""
        try:
            metadata = await self._metadata.get()
        except IdentityProviderError:
            return  # then the token endpoint has to wait for the metadata, too
        issuer = parameters.get("iss")
        missing = issuer is None and metadata.sends_issuer
        foreign = issuer is not None and metadata.issuer is not None and not metadata.is_issuer(issuer)
        if missing or foreign:
            raise OAuthError(
                CallbackOutcome.WRONG_ISSUER,
                "this answer is not from the identity provider that was asked: connect again from your application",
            )


def _idp_code(parameters: Mapping[str, str]) -> str:
    if "error" in parameters:
        raise OAuthError(*_ERRORS.get(parameters["error"], _REFUSED))
    if "code" not in parameters:
        raise OAuthError(CallbackOutcome.NO_CODE, "the identity provider sent no code, try again")
    return parameters["code"]
