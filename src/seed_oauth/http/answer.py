"""What an endpoint returns on success: an `Answer` that names a row of the table."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson
from starlette.responses import Response

from seed_oauth.outcomes import ClientFamily, Outcome

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""No OAuth response may be cached (RFC 6749 §5.1)."""

PUBLIC = {"Cache-Control": "public, max-age=300"}
"""Responses that are the same for everybody may be cached for some minutes."""


class Answer(NamedTuple):
    """The row that a request ended in, and its response."""

    outcome: Outcome
    response: Response
    client_family: ClientFamily = ClientFamily.OTHER
    """The family of the client, where it is known."""
    waited: float | None = None
    """Seconds that the user spent at the identity provider; only of the callback."""
    is_step: bool = True
    """Whether the outcome is counted as a step of a login; of the MCP server only the first request of a grant is."""


def found(location: str) -> Response:
    """302 to `location`, which is never cached and never becomes a Referer (RFC 9700 §4.2.4)."""
    return _redirect(302, location)


def see_other(location: str) -> Response:
    """303 to the page that shows what a form has done (RFC 9110 §15.4.4)."""
    return _redirect(303, location)


def _redirect(status: int, location: str) -> Response:
    response = Response(status_code=status)
    response.raw_headers += [(b"location", location.encode("latin-1")), _NO_REFERRER, *_NO_STORE]
    return response


def json_response(content: Mapping[str, object], status: int, headers: Mapping[str, str] = NO_STORE) -> Response:
    """A JSON document."""
    response = Response(orjson.dumps(content), status, media_type="application/json")
    response.raw_headers += _NO_STORE if headers is NO_STORE else _encoded(headers)
    return response


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


_NO_STORE = _encoded(NO_STORE)
_NO_REFERRER = (b"referrer-policy", b"no-referrer")
