"""Header fields between a client and the MCP server: only this server may say who the client is."""

import re
from collections.abc import Container, Iterable

Headers = list[tuple[bytes, bytes]]
"""Names and values, as in ASGI."""

IDENTITY_PREFIX = b"x-seed-oauth-"
"""The prefix of all identity header fields."""

_NOT_ALPHANUMERIC = re.compile(rb"[^a-z0-9]")


def spelling(name: bytes) -> bytes:
    """One spelling for all the names that CGI, WSGI or PHP take for the same header field.

    They replace every other character by an underscore, so that `X_Seed_OAuth_Subject` reads as ours.
    """
    return _NOT_ALPHANUMERIC.sub(b"-", name.lower())


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
