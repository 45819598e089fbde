"""Grants: what a user has granted a client, for as long as refresh tokens keep it alive.

A refresh token of the broker flow is an envelope that holds the ID of its grant and its own generation. Only the
newest generation has to be stored, so that a refresh token works once (RFC 9700 §4.14.2): one small row for each
grant in use, and none for a login that is never refreshed.
"""

from enum import Enum
from typing import Protocol

GRACE = 30.0
"""Seconds in which a repeated refresh gets the same answer: clients lose answers, and a client may refresh from two
of its servers at once."""


class RefreshLease(Enum):
    """What may be done with a refresh token that is presented."""

    YOURS = "yours"
    """Exchange it at the identity provider, then `finish` or `abandon`."""
    TAKEN = "taken"
    """Another request is exchanging it at this moment; its answer will be available soon."""
    SPENT = "spent"
    """It was used before, so it may be stolen: its grant is now revoked."""
    REVOKED = "revoked"
    """Its grant was already revoked, by the client or because one of its refresh tokens was SPENT."""


class GrantStore(Protocol):
    """Stores grants. Every method raises `StoreError` when it cannot answer.

    Several processes use it at once; of those that present the same refresh token, only one gets the lease.
    """

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        """What may be done with the refresh token of this grant and generation, or the answer that it already got.

        SPENT is returned once for each grant, to the request that detects it. Times are seconds since the epoch:
        a lease ends at `until` at the latest, because its holder may have died, and after `expires_at` the grant
        may be deleted.
        """
        ...

    async def finish(self, grant_id: str, generation: int, answer: str, *, now: float) -> None:
        """Store the answer for repeated requests; the next generation is the newest from now on."""
        ...

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Return the lease: the exchange failed, so the same refresh token may be tried again."""
        ...

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Make every refresh token of this grant REVOKED."""
        ...
