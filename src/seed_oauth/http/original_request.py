"""The request that a reverse proxy asks about, as its header fields describe it (forward authentication)."""

import re
from typing import NamedTuple

from starlette.requests import Request

from seed_oauth.http.paths import VERIFY

_MEANINGS = ("uri", "method", "host", "scheme")
_FIELDS = {
    b"x-original-uri": "uri",
    b"x-forwarded-uri": "uri",
    b"x-original-method": "method",
    b"x-forwarded-method": "method",
    b"x-forwarded-host": "host",
    b"x-forwarded-proto": "scheme",
}

# The host with a port, and segments that nobody decodes or resolves (RFC 3986 §3.3): without percent-encoding, `.`,
# `..`, `;` and empty ones.
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
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
    fields = [(_FIELDS[name], value.decode("latin-1")) for name, value in request.headers.raw if name in _FIELDS]
    fields += _of_itself(request)
    said = dict(fields)
    if len(said) < len(_MEANINGS) or len(said) < len(set(fields)):
        raise AmbiguousRequestError(
            "the reverse proxy must send X-Original-URI, X-Original-Method, X-Forwarded-Host and X-Forwarded-Proto once"
        )
    path, _, query = said["uri"].partition("?")
    scheme, host = said["scheme"], said["host"]
    if scheme not in {"https", "http"} or not _HOST.fullmatch(host) or not _PLAIN_PATH.fullmatch(path):
        raise AmbiguousRequestError("the path must be plain: no percent-encoding, dot segments, empty segments or ;")
    return OriginalRequest(said["method"], f"{scheme}://{host}{path}", query.encode("latin-1"))


def _of_itself(request: Request) -> list[tuple[str, str]]:
    """What Envoy says: it sends the request itself, without its body and with a longer path."""
    path = request.scope.get("raw_path", b"").decode("latin-1").partition(VERIFY)[2]
    if not path:
        return []
    query = request.scope["query_string"].decode("latin-1")
    hosts = [("host", host) for host in request.headers.getlist("host")]
    return [("uri", f"{path}?{query}"), ("method", request.method), *hosts]
