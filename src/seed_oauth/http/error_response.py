"""Turns an `OAuthError` into a response: the only place where errors are rendered."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.http import log_fields, paths
from seed_oauth.http.answer import NO_STORE, found, json_response
from seed_oauth.http.pages import ErrorView, error_page, onward_page
from seed_oauth.http.parameters import add_to_query
from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    Cause,
    ConsentOutcome,
    Outcome,
    ResourceOutcome,
)
from seed_oauth.outcomes.errors import JsonRpcError, OAuthError, Recipient

_RETRY_AFTER = "5"  # seconds; a value of the identity provider's takes precedence

_FOR_A_PERSON = (AuthorizationOutcome, ConsentOutcome, CallbackOutcome, AccountOutcome, ResourceOutcome)
"""The endpoints that a browser navigates to; to the protected resource by mistake."""

_DENIED = frozenset({ConsentOutcome.DENIED, ConsentOutcome.DENIED_AFTER_LOGIN})

_SAYS_WHAT_TO_DO = frozenset(
    {
        AuthorizationOutcome.RATE_LIMITED,
        AuthorizationOutcome.UNKNOWN_CLIENT,
        AuthorizationOutcome.CLIENT_DOCUMENT_UNAVAILABLE,
        AuthorizationOutcome.CLIENT_NOT_ALLOWED,
        ConsentOutcome.RATE_LIMITED,
        ConsentOutcome.BAD_ENVELOPE,
        CallbackOutcome.RATE_LIMITED,
        CallbackOutcome.BAD_STATE,
    }
)
"""The rows with cause `client` whose description tells the user what to do."""


def error_response(error: OAuthError, request: Request, *, issuer: str, correlation_id: str) -> Response:
    """The response for `error`.

    A redirect where the error has a recipient to redirect to (RFC 6749 §4.1.2.1), which after a form is a page that
    redirects (see `onward_page`); a page for a browser; and JSON (RFC 6749 §5.2) otherwise.
    """
    outcome = error.outcome
    location = None if error.recipient is None else _location(error.recipient, error, issuer)
    if location is not None and error.recipient and error.recipient.automatic:
        return onward_page(location) if isinstance(outcome, ConsentOutcome) else found(location)
    headers = dict(error.headers)
    if outcome.status in {502, 503}:
        headers.setdefault("Retry-After", _RETRY_AFTER)
    code = outcome.error or "server_error"
    if isinstance(outcome, _FOR_A_PERSON) and (_accepts_html(request) or outcome in _DENIED):
        title, description, detail = _in_words(error)
        view = ErrorView(
            title,
            description,
            detail,
            error=code,
            correlation_id=correlation_id,
            flow_id=log_fields.noted("flow_id"),
            location=location,
            other_account=error.other_account,
            account=paths.url(issuer, paths.ACCOUNT) if _can_sign_in_again(outcome) else None,
        )
        return error_page(view, outcome.status, headers)
    content: Mapping[str, object] = {"error": code, "error_description": error.description}
    if isinstance(error, JsonRpcError):
        failure = {"code": error.code, "message": error.description}
        content = {"jsonrpc": "2.0", "id": error.request_id, "error": failure}
    return json_response(content, outcome.status, {**NO_STORE, **headers})


def _in_words(error: OAuthError) -> tuple[str, str, str]:
    """What the user is told: a title, what happened, and what the client's developer has to know."""
    outcome = error.outcome
    if outcome in _DENIED:
        return "You denied access", "The application gets no access: you can close this page", ""
    if isinstance(outcome, ResourceOutcome):
        description = "Add the URL of this page to your MCP client, which then opens the login"
        return "This address is for MCP clients", description, ""
    if isinstance(outcome, AccountOutcome):
        return "Nothing was changed", error.description, ""
    if outcome.cause is Cause.CLIENT and outcome not in _SAYS_WHAT_TO_DO:
        mistake = "The application that sent you here made a mistake, which only its developer can fix"
        return "This login cannot continue", mistake, error.description
    return "This login cannot continue", error.description, ""


def _can_sign_in_again(outcome: Outcome) -> bool:
    return isinstance(outcome, AccountOutcome) and outcome.cause is Cause.USER


def _location(recipient: Recipient, error: OAuthError, issuer: str) -> str:
    parameters = {"error": error.outcome.error or "server_error", "error_description": error.description}
    if recipient.state is not None:
        parameters["state"] = recipient.state
    # RFC 9207 §2: error responses carry the issuer, too.
    parameters["iss"] = issuer
    return add_to_query(recipient.redirect_uri, parameters)


def _accepts_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
