"""Access tokens that were verified a moment ago, so that the token of a busy client is not verified for each request.

Whether a token was revoked is asked each time. The tokens themselves are not kept, only their hashes.
"""

from collections import OrderedDict
from hashlib import sha256

from seed_oauth.resource_server import VerifiedToken

MOST = 1000
"""Tokens that are remembered, each in a few kilobytes."""


class VerifiedTokens:
    """What the tokens said that were verified last."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[bytes, str], tuple[VerifiedToken, float]] = OrderedDict()

    def find(self, token: str, resource: str, now: float) -> VerifiedToken | None:
        """What the token says, if it is known to be valid for the resource."""
        key = _key(token, resource)
        if key not in self._found:
            return None
        verified, until = self._found[key]
        if until <= now:
            del self._found[key]
            return None
        self._found.move_to_end(key)
        return verified

    def add(self, token: str, resource: str, verified: VerifiedToken, until: float) -> None:
        """Remember what the token says, until that many seconds since the epoch."""
        self._found[_key(token, resource)] = verified, until
        if len(self._found) > MOST:
            self._found.popitem(last=False)


def _key(token: str, resource: str) -> tuple[bytes, str]:
    return sha256(token.encode()).digest(), resource
