"""Token introspection: asking the identity provider about opaque access tokens (RFC 7662)."""

from collections.abc import Callable, Mapping
from hashlib import sha256

from seed_oauth.identity_provider.client import IdentityProvider

REMEMBERED_FOR = 60.0
"""Seconds that an answer is cached: a revoked token is accepted that long (RFC 7662 §4)."""

MOST_REMEMBERED = 4096


class Introspection:
    """The introspection endpoint, with a cache whose keys are hashes of the tokens."""

    def __init__(self, identity_provider: IdentityProvider, clock: Callable[[], float]) -> None:
        """`clock` counts seconds and never goes back."""
        self._identity_provider = identity_provider
        self._clock = clock
        self._answers: dict[bytes, tuple[float, Mapping[str, object]]] = {}

    async def ask(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """The members of the answer (RFC 7662 §2.2).

        Raises:
            IdentityProviderError: there is no usable answer.
        """
        digest = sha256(access_token.encode()).digest()
        until, members = self._answers.get(digest, (0.0, {}))
        now = self._clock()
        if now >= until:
            members = await self._identity_provider.introspect(introspection_endpoint, access_token)
            self._remember(digest, now + REMEMBERED_FOR, members)
        return members

    def _remember(self, digest: bytes, until: float, members: Mapping[str, object]) -> None:
        self._answers.pop(digest, None)
        if len(self._answers) >= MOST_REMEMBERED:
            del self._answers[next(iter(self._answers))]  # the one that expires first
        self._answers[digest] = until, members
