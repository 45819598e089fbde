"""Turns an `OAuthError` into a response: the only place where errors are rendered."""

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.errors import OAuthError
from seed_oauth.http.answer import NO_STORE, found, json_response
from seed_oauth.http.pages import error_page, onward_page
from seed_oauth.http.parameters import add_to_query
from seed_oauth.outcomes import AuthorizationOutcome, CallbackOutcome, ConsentOutcome

_RETRY_AFTER = "5"  # seconds; a value of the identity provider's takes precedence

_FOR_A_PERSON = (AuthorizationOutcome, ConsentOutcome, CallbackOutcome)
"""The endpoints that a browser navigates to."""


def error_response(error: OAuthError, request: Request, *, issuer: str, correlation_id: str) -> Response:
    """The response for `error`.

    A redirect where the error has a recipient (RFC 6749 §4.1.2.1), which after a form is a page that redirects
    (see `onward_page`); a page for a browser; and JSON (RFC 6749 §5.2) otherwise.
    """
    outcome = error.outcome
    if error.recipient is not None:
        location = _location(error, issuer)
        return onward_page(location) if isinstance(outcome, ConsentOutcome) else found(location)
    headers = dict(error.headers)
    if outcome.status in {502, 503}:
        headers.setdefault("Retry-After", _RETRY_AFTER)
    code = outcome.error or "server_error"
    if isinstance(outcome, _FOR_A_PERSON) and _accepts_html(request):
        return error_page(error.description, code, correlation_id, outcome.status, headers)
    content = {"error": code, "error_description": error.description}
    return json_response(content, outcome.status, {**NO_STORE, **headers})


def _location(error: OAuthError, issuer: str) -> str:
    assert error.recipient is not None  # noqa: S101 - the caller has checked
    parameters = {"error": error.outcome.error or "server_error", "error_description": error.description}
    if error.recipient.state is not None:
        parameters["state"] = error.recipient.state
    # RFC 9207 §2: error responses carry the issuer, too.
    parameters["iss"] = issuer
    return add_to_query(error.recipient.redirect_uri, parameters)


def _accepts_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
