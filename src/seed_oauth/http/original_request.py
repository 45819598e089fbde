"""The request that a reverse proxy asks about, as its header fields describe it (forward authentication)."""

import re
from typing import NamedTuple

from starlette.requests import Request

from seed_oauth.http.paths import VERIFY

_FIELDS = {
    b"x-original-uri": "uri",
    b"x-forwarded-uri": "uri",
    b"x-original-method": "method",
    b"x-forwarded-method": "method",
    b"x-forwarded-host": "host",
    b"x-forwarded-proto": "scheme",
}

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")

# Segments that nobody decodes or resolves (RFC 3986 §3.3): without percent-encoding, `.`, `..`, `;` and empty ones.
_PLAIN_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")


class AmbiguousRequestError(Exception):
    """It is not certain which request is meant; the message says why, and repeats nothing of the request."""


class OriginalRequest(NamedTuple):
    """What a client asked the reverse proxy for."""

    method: str
    url: str
    """Without the query."""
    query: bytes


def original_request(request: Request) -> OriginalRequest:
    """What `request` asks about, if the reverse proxy that sends it is trusted.

    Reverse proxies set some of the fields and pass on the client's own of the others, so all of them must agree.

    Raises:
        AmbiguousRequestError: a field is missing, two of them differ, or the path can be read in more than one way.
    """
    said: dict[str, set[str]] = {name: set() for name in _FIELDS.values()}
    for name, value in request.headers.raw:
        if name in _FIELDS:
            said[_FIELDS[name]].add(value.decode("latin-1"))
    path = request.scope.get("raw_path", b"").decode("latin-1").partition(VERIFY)[2]
    if path:
        # Envoy sends the request itself, without its body and with a longer path.
        query = request.scope["query_string"].decode("latin-1")
        said["uri"].add(f"{path}?{query}")
        said["method"].add(request.method)
        said["host"].update(request.headers.getlist("host"))
    if not all(len(values) == 1 for values in said.values()):
        raise AmbiguousRequestError(
            "the reverse proxy must send X-Original-URI, X-Original-Method, X-Forwarded-Host and X-Forwarded-Proto"
        )
    uri, method, host, scheme = (values.pop() for values in said.values())
    path, _, query = uri.partition("?")
    if scheme not in {"https", "http"} or not _HOST.fullmatch(host) or not _PLAIN_PATH.fullmatch(path):
        raise AmbiguousRequestError("the path must be plain: no percent-encoding, dot segments, empty segments or ;")
    return OriginalRequest(method, f"{scheme}://{host}{path}", query.encode("latin-1"))
