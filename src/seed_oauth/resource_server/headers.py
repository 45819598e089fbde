"""Header fields between a client and the MCP server: who the client is, is ours to say and nobody else's."""

import re
from collections.abc import Container, Iterable

Headers = list[tuple[bytes, bytes]]
"""As ASGI has them."""

IDENTITY_PREFIX = b"x-seed-oauth-"
"""What the names of all identity header fields begin with."""

_NOT_ALPHANUMERIC = re.compile(rb"[^a-z0-9]")


def spelling(name: bytes) -> bytes:
    """One spelling for all the names that a server behind CGI, WSGI or PHP takes for the same.

    They turn every other character into an underscore, so that `X_Seed_OAuth_Subject` reads as ours.
    """
    return _NOT_ALPHANUMERIC.sub(b"-", name.lower())


def without_identity(
    headers: Iterable[tuple[bytes, bytes]], names: Container[bytes] = (), prefixes: tuple[bytes, ...] = ()
) -> Headers:
    """The header fields less the access token, less those that tell who the client is, and less those named."""
    unwanted = (IDENTITY_PREFIX, *prefixes)
    kept = []
    for name, value in headers:
        spelt = spelling(name)
        if spelt != b"authorization" and spelt not in names and not spelt.startswith(unwanted):
            kept.append((name, value))
    return kept
