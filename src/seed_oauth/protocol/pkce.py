"""PKCE: the syntax of code_challenge and code_verifier (RFC 7636)."""

import re

MINIMUM_LENGTH = 43
MAXIMUM_LENGTH = 128

_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]*")


def has_valid_length(value: str) -> bool:
    """Whether it has 43 to 128 characters (RFC 7636 §4.1, §4.2)."""
    return MINIMUM_LENGTH <= len(value) <= MAXIMUM_LENGTH


def has_valid_format(value: str) -> bool:
    """Whether it has unreserved characters only (RFC 7636 §4.1, §4.2)."""
    return _UNRESERVED.fullmatch(value) is not None
