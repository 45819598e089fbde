"""The syntax of the scope parameter (RFC 6749 §3.3)."""

import re

_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")


def is_valid(scope: str) -> bool:
    """Whether it is a list of scope tokens, separated by single spaces."""
    return _SCOPE.fullmatch(scope) is not None
