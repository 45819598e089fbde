"""Header fields between a client and the MCP server: only this server may say who the client is."""

import re
import string
from collections.abc import Container, Iterable
from urllib.parse import quote

from seed_oauth.http_client.exchange import Headers
from seed_oauth.resource_server import VerifiedToken

IDENTITY_PREFIX = b"x-seed-oauth-"
"""The prefix of all identity header fields."""

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
"""The visible characters of ASCII."""
_UNESCAPED = VISIBLE.replace("%", "")
_NEEDS_NO_ESCAPE = re.compile("[!-$&-~]*")  # most values; looking takes less time than quoting
_UNESCAPED_IN_LIST = _UNESCAPED.replace(",", "")

_ALPHANUMERIC = (string.ascii_letters + string.digits).encode()
_SPELLING = bytes(octet if octet in _ALPHANUMERIC else ord("-") for octet in range(256)).lower()


def spelling(name: bytes) -> bytes:
    """One spelling for all the names that CGI, WSGI or PHP take for the same header field.

    They replace every other character by an underscore, so that `X_Seed_OAuth_Subject` reads as ours.
    """
    return name.translate(_SPELLING)


def without_identity(
    headers: Iterable[tuple[bytes, bytes]], names: Container[bytes] = (), prefixes: tuple[bytes, ...] = ()
) -> Headers:
    """The header fields without the access token, the identity header fields, and those that are named."""
    unwanted = (IDENTITY_PREFIX, *prefixes)
    kept = []
    for name, value in headers:
        spelt = spelling(name)
        if spelt != b"authorization" and spelt not in names and not spelt.startswith(unwanted):
            kept.append((name, value))
    return kept


def is_event_stream(headers: Headers) -> bool:
    """Whether a response with these header fields is an event stream."""
    for name, value in headers:  # without a generator, because every response is looked at
        if name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream"):
            return True
    return False


def identity_headers(token: VerifiedToken, issuer: str, *, send_token: bool) -> dict[str, str | None]:
    """The identity header fields; None for what the token does not say.

    `issuer` is this server, and `send_token` passes the identity provider's access token, too.
    """
    return {
        "X-Seed-OAuth-Subject": _encoded(token.subject),
        "X-Seed-OAuth-Email": _encoded(token.email),
        "X-Seed-OAuth-Name": _encoded(token.name),
        "X-Seed-OAuth-Groups": ",".join(quote(group, safe=_UNESCAPED_IN_LIST) for group in token.groups),
        "X-Seed-OAuth-Tenant": _encoded(token.tenant),
        # In a token of the identity provider it would be this server's own client_id there.
        "X-Seed-OAuth-Client-Id": _encoded(token.client_id if token.issuer == issuer else None),
        "X-Seed-OAuth-Scope": " ".join(map(_escaped, sorted(token.scopes))),
        "X-Seed-OAuth-IdP-Token": _encoded(token.idp_token if send_token else None),
    }


def _encoded(value: str | None) -> str | None:
    return None if value is None else _escaped(value)


def _escaped(value: str) -> str:
    return value if _NEEDS_NO_ESCAPE.fullmatch(value) else quote(value, safe=_UNESCAPED)
