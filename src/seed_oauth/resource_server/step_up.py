"""Whether a client is asked to log in again for more scopes: once, and not again if that login did not bring them."""

from collections.abc import Callable, Iterable
from time import monotonic

from seed_oauth.resource_server import VerifiedToken

REMEMBERED_FOR = 600.0
"""Seconds. Whoever has been given more rights in the meantime is asked again after that."""

_MOST = 10_000  # challenges that are remembered; the oldest is forgotten first

_Key = tuple[str, str | None, str, tuple[str, ...]]


class StepUps:
    """The challenges of the last minutes.

    Clients log in again each time they are asked, and an agent tries again when a call fails. A person whom the
    identity provider does not grant the scope would see one login after the other.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._asked: dict[_Key, tuple[object, float]] = {}

    def begin(self, token: VerifiedToken, login: object, needed: Iterable[str]) -> bool:
        """Whether to ask for a login with the scopes that an operation needs and `token` does not have.

        `login` stands for the login that the token is of. Where another one was asked before, the client has logged in
        again in the meantime, and it was of no use.
        """
        if token.subject is None:
            return True  # this may be somebody else
        key = (token.issuer, token.client_id, token.subject, tuple(needed))
        asked, at = self._asked.pop(key, (login, self._clock()))
        if asked != login and self._clock() - at < REMEMBERED_FOR:
            self._asked[key] = asked, at
            return False
        self._asked[key] = login, self._clock()
        if len(self._asked) > _MOST:
            del self._asked[next(iter(self._asked))]
        return True

    def end(self, token: VerifiedToken, needed: Iterable[str]) -> None:
        """Forget the challenge for an operation that `token` is good for."""
        if self._asked and token.subject is not None:
            self._asked.pop((token.issuer, token.client_id, token.subject, tuple(needed)), None)
