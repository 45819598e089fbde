"""Grants: what a user gave a client, as long as refresh tokens keep it alive.

A refresh token of the broker flow is an envelope with the number of its grant and of its own generation in it.
What has to be remembered between two refreshes is only which generation is the newest, so that a refresh token
works once (RFC 9700 §4.14.2): one small row for a grant that is in use, none for a login that never refreshes.
"""

from enum import Enum
from typing import Protocol

GRACE = 30.0
"""Seconds in which the same refresh again gets the same answer: clients lose answers, and one client may refresh
from two of its servers at once."""


class RefreshLease(Enum):
    """What a refresh token that is presented may do."""

    YOURS = "yours"
    """Exchange it at the identity provider, then `finish` or `abandon`."""
    TAKEN = "taken"
    """Another request is exchanging it at this moment: its answer is soon to be had."""
    SPENT = "spent"
    """It was used before: somebody may have stolen it, so its grant is revoked."""
    REVOKED = "revoked"
    """Its grant was revoked before, by the client or because a refresh token of it was SPENT."""


class GrantStore(Protocol):
    """Where grants are remembered. Every method raises `StoreError` when it cannot answer.

    Several processes use it at once; of those that present the same refresh token one alone gets the lease.
    """

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        """What the refresh token of this grant and generation may do, or the answer that it already got.

        That it is SPENT is said once for a grant, to the request that finds it out. Times are seconds since the
        epoch: a lease that is taken lasts `until` then at most, because whoever took it may have died, and after
        `expires_at` the grant may be forgotten.
        """
        ...

    async def finish(self, grant_id: str, generation: int, answer: str, *, now: float) -> None:
        """Keep the answer for those who ask again; the next generation is the newest from now on."""
        ...

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Give the lease back: nothing came of it, so the same refresh token may be tried again."""
        ...

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Have every refresh token of this grant be REVOKED."""
        ...
