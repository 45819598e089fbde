"""The responses of an endpoint, derived from its table of outcomes, so that the document matches the answers."""

from collections.abc import Collection, Mapping
from itertools import groupby

from seed_oauth.endpoints.openapi.schemas import TEXT, URI, Schema, ref
from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    EndpointOutcomes,
    Outcome,
    TokenOutcome,
)
from seed_oauth.settings import Settings

_FOR_BROWSERS = (AuthorizationOutcome, ConsentOutcome, CallbackOutcome, AccountOutcome)

_BROKER_FLOW_ONLY: Collection[Outcome] = {
    AuthorizationOutcome.CONSENT_ASKED,
    TokenOutcome.BAD_CODE,
    TokenOutcome.BAD_REFRESH_TOKEN,
    TokenOutcome.REFRESH_TOKEN_REUSED,
    TokenOutcome.REFRESH_TOKEN_REVOKED,
    TokenOutcome.CODE_REUSED,
    TokenOutcome.STORE_FAILED,
}

_UNAUTHORIZED = 401
_TEMPORARY = frozenset({429, 502, 503})
_REDIRECT = 302
_REDIRECTS = frozenset({_REDIRECT, 303})
_DELIVERED = frozenset({200, _REDIRECT})  # the error goes to the client by a page or a redirect

_PAGE: Schema = {"text/html": {"schema": TEXT}}

HEADERS: Mapping[str, Schema] = {
    "X-Correlation-Id": {"description": "The id of this request in the log.", "schema": TEXT, "required": True},
    "Retry-After": {"description": "Seconds to wait.", "schema": TEXT, "required": True},
    "WWW-Authenticate": {"description": "How to authenticate (RFC 6749 §5.2, RFC 6750 §3).", "schema": TEXT},
    "Location": {"description": "The next URL of the browser.", "schema": URI, "required": True},
}


def responses(
    outcomes: EndpointOutcomes, settings: Settings, success: Schema | None = None, description: str = ""
) -> dict[str, dict[str, object]]:
    """The responses by status, each with its outcomes.

    `success` and `description` are the content and the description of the successful response.
    """
    rows = sorted((row for row in outcomes if _can_be_answered(row, outcomes, settings)), key=lambda row: row.status)
    found: dict[str, dict[str, object]] = {}
    for status, at_status in groupby(rows, key=lambda row: row.status):
        found[str(status)] = _response(status, list(at_status), success, description)
    if outcomes is AuthorizationOutcome:
        # RFC 6749 §4.1.2.1: with a valid client_id and redirect_uri, errors are redirected to the client.
        found["302"]["description"] = (
            "Redirect to the identity provider; or to the client with `error`, `state` and `iss`, if client_id and "
            "redirect_uri are valid and another parameter is not."
        )
    return found


def _can_be_answered(row: Outcome, outcomes: EndpointOutcomes, settings: Settings) -> bool:
    if row in {outcomes.METHOD_NOT_ALLOWED, outcomes.CANCELLED}:
        return False  # the one belongs to other methods, the other has no response
    if row.name.endswith(("CLIENT_DOCUMENT", "CLIENT_DOCUMENT_UNAVAILABLE")):
        return settings.client_id_metadata_documents
    return settings.flow == "broker" or row not in _BROKER_FLOW_ONLY


def _response(status: int, rows: list[Outcome], success: Schema | None, description: str) -> dict[str, object]:
    errors = [row for row in rows if row.error is not None]
    content = dict(success or {}) if len(errors) < len(rows) and status not in _REDIRECTS else {}
    if errors and status not in _DELIVERED:
        content |= _error_content(errors)
    names = ["X-Correlation-Id"]
    names += ["Location"] if status in _REDIRECTS else []
    names += ["Retry-After"] if status in _TEMPORARY else []
    names += ["WWW-Authenticate"] if status == _UNAUTHORIZED else []
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    response: dict[str, object] = {"description": _described(rows, description), "headers": headers}
    if content:
        response["content"] = content
    return response


def _error_content(errors: list[Outcome]) -> Schema:
    codes = sorted({row.error for row in errors if row.error})
    schema = {"allOf": [ref("Error"), {"properties": {"error": {"enum": codes}}}]}
    content: dict[str, object] = {"application/json": {"schema": schema}}
    if isinstance(errors[0], _FOR_BROWSERS):
        content |= _PAGE
    return content


def _described(rows: list[Outcome], description: str) -> str:
    """The reasons by their `error`; a success has none."""
    reasons: dict[str | None, list[str]] = {}
    for row in rows:
        reasons.setdefault(row.error, []).append(row.reason)
    lines = [description] if None in reasons and description else []
    lines += [f"`{error or 'no error'}`: {', '.join(names)}" for error, names in reasons.items()]
    return ". ".join(lines)
