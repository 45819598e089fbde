"""Which request is the first that a grant's tokens are accepted for: the last step of a login.

The store of the grants knows, so that of all processes one counts it. Where it does not, in the relay flow, without a
store or because the identity provider's token lacks the name of its user or of itself, each of its tokens is taken for
a login, known by user, session, time of issue and family. Each process counts it, and again after a restart.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic, time

from starlette.requests import Request

from seed_oauth.clients.family import family_of_user_agent
from seed_oauth.flows.grants import GrantStore, Selection
from seed_oauth.flows.revoked import hashed
from seed_oauth.outcomes import ClientFamily
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.telemetry.steps import UNCOUNTED_METHODS

MOST = 20_000
"""Grants and tokens that are remembered, and as many logins that no store knows, in about 4 MB each."""

PAUSE = 30.0
"""Seconds for which a store that has failed is not asked: no request has to wait only to be counted."""


class FirstUses:
    """The grants whose tokens have been used, as far as this process knows."""

    def __init__(
        self, grants: GrantStore | None, now: Callable[[], float] = time, clock: Callable[[], float] = monotonic
    ) -> None:
        """`now` counts seconds since the epoch; `clock` counts seconds and never goes back."""
        self._grants = grants
        self._now = now
        self._clock = clock
        self._asked = _Latest()  # the store answers again about those that are forgotten
        self._counted = _Latest()
        self._paused_until = clock()

    def has_seen(self, token: VerifiedToken) -> bool:
        """Whether this process knows that the grant of our own token has been used."""
        return self._asked.has(token.grant_id) or self._counted.has(token.grant_id)

    async def family(self, request: Request, token: VerifiedToken) -> ClientFamily | None:
        """The family of the client, if this request, which was accepted, is the first use of its grant; else None."""
        if request.method in UNCOUNTED_METHODS:
            return None
        name = token.grant_id or token.token_id
        if self._grants is None or name is None:
            return self._family_of_login(request, token)
        if self._asked.has(name) or self._clock() < self._paused_until:
            return None
        try:
            grant_id = token.grant_id or await self._grant_of(token, self._grants)
            family = None if grant_id is None else await self._grants.first_use(grant_id)
        except StoreError:
            self._paused_until = self._clock() + PAUSE
            return None
        self._asked.add(name)
        if grant_id is None:
            return self._family_of_login(request, token)
        return None if family is None else ClientFamily(family)

    async def _grant_of(self, token: VerifiedToken, grants: GrantStore) -> str | None:
        """The grant for which the identity provider's token was passed on."""
        if token.subject is None or token.token_id is None:
            return None
        of_user = await grants.search(Selection(subject_hash=hashed(token.subject)), now=self._now())
        token_hash = hashed(token.token_id)
        return next((grant.grant_id for grant in of_user if grant.token_hash == token_hash), None)

    def _family_of_login(self, request: Request, token: VerifiedToken) -> ClientFamily | None:
        family = family_of_user_agent(request.headers.get("user-agent"))
        # The client is not in the identity provider's token: its client_id is ours.
        login = token.grant_id or (token.issuer, token.subject, token.session_id, token.issued_at, family)
        if self._counted.has(login):
            return None
        self._counted.add(login)
        return family


class _Latest:
    """The names that were asked for or added last."""

    def __init__(self) -> None:
        self._names: OrderedDict[object, None] = OrderedDict()

    def has(self, name: object) -> bool:
        if name not in self._names:
            return False
        self._names.move_to_end(name)
        return True

    def add(self, name: object) -> None:
        self._names[name] = None
        if len(self._names) > MOST:
            self._names.popitem(last=False)
