"""From an `OAuthError` to a response: the only place where an error gets its bytes."""

from html import escape
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from seed_oauth.answer import NO_STORE, found, json_response
from seed_oauth.errors import OAuthError
from seed_oauth.outcomes import AuthorizationOutcome
from seed_oauth.parameters import add_to_query

_RETRY_AFTER = "5"  # seconds; the identity provider's own word goes before

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    **NO_STORE,
}

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>This login cannot go on</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
  main { max-width: 36rem; margin: 12vh auto; padding: 0 1.5rem }
  code { font-size: .9em }
  footer { margin-top: 2rem; opacity: .7 }
</style>
<main>
  <h1>This login cannot go on</h1>
  <p>The application that sent you here asked for something that cannot be granted:</p>
  <p><strong>$description.</strong></p>
  <p>Nothing was changed. Go back to the application and try again from there.</p>
  <footer>Error <code>$error</code>, reference <code>$correlation_id</code></footer>
</main>
</html>
""")


def error_response(error: OAuthError, request: Request, *, issuer: str, correlation_id: str) -> Response:
    """The response that tells of `error`.

    By redirect once the recipient is verified (RFC 6749 §4.1.2.1), as a page where a person is looking,
    and as JSON (RFC 6749 §5.2) otherwise.
    """
    if error.recipient is not None:
        return found(_location(error, issuer))
    for_a_person = isinstance(error.outcome, AuthorizationOutcome) and _accepts_html(request)
    response = _page(error, correlation_id) if for_a_person else _json(error)
    response.headers.update(error.headers)
    if error.outcome.status in {502, 503}:
        response.headers.setdefault("Retry-After", _RETRY_AFTER)
    return response


def _location(error: OAuthError, issuer: str) -> str:
    assert error.recipient is not None  # noqa: S101 - the caller looked
    parameters = {"error": error.outcome.error or "server_error", "error_description": error.description}
    if error.recipient.state is not None:
        parameters["state"] = error.recipient.state
    # RFC 9207 §2: error responses say who sends them, too.
    parameters["iss"] = issuer
    return add_to_query(error.recipient.redirect_uri, parameters)


def _json(error: OAuthError) -> Response:
    content = {"error": error.outcome.error, "error_description": error.description}
    return json_response(content, error.outcome.status)


def _page(error: OAuthError, correlation_id: str) -> Response:
    description = error.description[:1].upper() + error.description[1:]
    page = _PAGE.substitute(
        description=escape(description),
        error=escape(error.outcome.error or ""),
        correlation_id=correlation_id,
    )
    return HTMLResponse(page, error.outcome.status, _PAGE_HEADERS)


def _accepts_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
