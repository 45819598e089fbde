"""PKCE (RFC 7636): what a code_challenge and a code_verifier look like."""

import re

MINIMUM_LENGTH = 43
MAXIMUM_LENGTH = 128

_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]*")


def has_valid_length(value: str) -> bool:
    """Whether it has the 43 to 128 characters of RFC 7636 §4.1 and §4.2."""
    return MINIMUM_LENGTH <= len(value) <= MAXIMUM_LENGTH


def has_valid_format(value: str) -> bool:
    """Whether it has only the unreserved characters of RFC 7636 §4.1 and §4.2."""
    return _UNRESERVED.fullmatch(value) is not None
