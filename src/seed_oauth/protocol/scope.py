"""Scopes: what the parameter may look like (RFC 6749 §3.3)."""

import re

_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")


def is_valid(scope: str) -> bool:
    """Whether it is a list of scope tokens with one space between."""
    return _SCOPE.fullmatch(scope) is not None
