"""Taking access back: the operator, the identity provider or a user ends grants."""

from collections.abc import Callable, Iterable

from seed_oauth.flows.grants import GrantStore, Selection, StoredGrant
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import FOR_GOOD, Revoked

_NAMED = {
    "client_id": (Revoked.CLIENT, None),
    "subject_hash": (Revoked.SUBJECT, None),
    # An identity provider never names two sessions alike.
    "session_hash": (Revoked.SESSION, FOR_GOOD),
}
"""What is revoked besides the grants when only this is selected, and until when its tokens are void; None for now."""


class GrantRevocation:
    """Revokes grants, in every process: no refresh from now on, and no access a second later."""

    def __init__(
        self, grants: GrantStore, revocations: Revocations, now: Callable[[], float], *, lifetime: float
    ) -> None:
        """`now` counts seconds since the epoch; `lifetime` is how many seconds a refresh token lasts unused."""
        self._grants = grants
        self._revocations = revocations
        self._now = now
        self._lifetime = lifetime

    async def revoke(self, chosen: Selection) -> int:
        """Revoke the selected grants with all their tokens; how many there were.

        A selection of nothing but a user, a client or a session also makes void what was issued to them without a
        stored grant, such as access tokens of the identity provider. A selection of everything does so for everybody.

        Raises:
            StoreError: it may be done in part; it can be repeated.
        """
        now = self._now()
        only = [(name, value) for name, value in chosen._asdict().items() if value is not None]
        # First: a login that is under way stores its grant, and looks here afterwards.
        if not only:
            await self._revocations.revoke(Revoked.ALL, before=now)
        elif len(only) == 1 and only[0][0] in _NAMED:
            of, before = _NAMED[only[0][0]]
            await self._revocations.revoke(of, only[0][1], before=before or now)
        return await self._end(await self._grants.search(chosen, now=now))

    async def end_session(self, session_hash: str, subject_hash: str | None) -> int:
        """Revoke the grants of a session of a user at the identity provider, and those of unknown session.

        Raises:
            StoreError: as `revoke`.
        """
        ended = await self.revoke(Selection(session_hash=session_hash))
        if subject_hash is None:
            return ended
        grants = await self._grants.search(Selection(subject_hash=subject_hash), now=self._now())
        return ended + await self._end(grant for grant in grants if grant.session_hash is None)

    async def end(self, grant_id: str) -> None:
        """Revoke one grant, also if nothing is stored of it.

        Raises:
            StoreError: as `revoke`.
        """
        if not await self._end(await self._grants.search(Selection(grant_id=grant_id), now=self._now())):
            await self._end_one(grant_id, token_hash=None)

    async def _end(self, grants: Iterable[StoredGrant]) -> int:
        ended = 0
        for grant in grants:
            await self._end_one(grant.grant_id, grant.token_hash)
            ended += 1
        return ended

    async def _end_one(self, grant_id: str, token_hash: str | None) -> None:
        await self._grants.revoke(grant_id, expires_at=self._now() + self._lifetime)
        await self._revocations.revoke(Revoked.GRANT, grant_id)
        if token_hash is not None:
            await self._revocations.revoke(Revoked.TOKEN, token_hash)
