"""Grants: what a user has granted a client, for as long as refresh tokens keep it alive.

A refresh token of the broker flow is an envelope that holds the ID of its grant and its own generation. What is stored
is one small row for each grant: its newest generation, so that a refresh token works once (RFC 9700 §4.14.2), and who
has access by it since when, so that it can be listed and revoked. No token is in it.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

GRACE = 30.0
"""Seconds in which a repeated refresh gets the same answer: clients lose answers, and a client may refresh from two
of its servers at once."""

PER_SUBJECT = 100
"""Grants of one user; with one more, the one that was used longest ago is revoked. This bounds the store."""

_HOUR = 3600


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


class StoredGrant(NamedTuple):
    """Who has access by a grant."""

    grant_id: str
    client_id: str
    client_name: str | None
    """As the client calls itself."""
    client_family: str
    subject_hash: str | None
    """None when the identity provider does not say who the user is."""
    session_hash: str | None
    """Of the session at the identity provider (`sid` of the ID token), where it has said it."""
    scope: str | None
    resource: str
    issued_at: int
    """When the user logged in, in seconds since the epoch."""
    used_at: int
    """When a token was last issued, in seconds since the epoch; to the hour, but never before `issued_at`."""
    address: str | None = None
    """The address of the browser at the login."""
    token_hash: str | None = None
    """Of the newest access token of the identity provider that was passed on to the client, by its `jti`."""

    @property
    def facts(self) -> dict[str, object]:
        """What the audit trail has of it once it is revoked; the keys are those of `access.audit.FACTS`."""
        return {
            "grant_id": self.grant_id,
            "client_id": self.client_id,
            "client_name": self.client_name,
            "resource": self.resource,
        }


class Selection(NamedTuple):
    """Some grants: those that agree with everything that is not None."""

    grant_id: str | None = None
    subject_hash: str | None = None
    client_id: str | None = None
    session_hash: str | None = None
    issued_before: float | None = None
    """Seconds since the epoch."""

    def has(self, grant: StoredGrant) -> bool:
        """Whether the grant is one of them."""
        *names, issued_before = self
        had = grant.grant_id, grant.subject_hash, grant.client_id, grant.session_hash
        return all(name in {None, one} for name, one in zip(names, had, strict=True)) and (
            issued_before is None or grant.issued_at < issued_before
        )


class GrantStore(Protocol):
    """Stores grants. Every method raises `StoreError` when it cannot answer.

    Several processes use it at once; of those that present the same refresh token, only one gets the lease.
    """

    async def add(self, grant: StoredGrant, *, expires_at: float) -> None:
        """Store a new grant. It is deleted after `expires_at`, which a refresh postpones."""
        ...

    async def search(self, chosen: Selection, *, now: float) -> Sequence[StoredGrant]:
        """The grants that are neither revoked nor expired, the ones used last first."""
        ...

    async def first_use(self, grant_id: str) -> str | None:
        """The client_family of a new grant whose tokens have not been used yet, and have now; None for any other.

        Of all callers in all processes, one gets it.
        """
        ...

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        """What may be done with the refresh token of this grant and generation, or the answer that it already got.

        SPENT is returned once for each grant, to the request that detects it. Times are seconds since the epoch:
        a lease ends at `until` at the latest, because its holder may have died, and after `expires_at` the grant
        may be deleted.
        """
        ...

    async def finish(
        self, grant_id: str, generation: int, answer: str, *, now: float, token_hash: str | None = None
    ) -> None:
        """Store the answer for repeated requests; the next generation is the newest from now on."""
        ...

    async def abandon(self, grant_id: str, generation: int) -> None:
        """Return the lease: the exchange failed, so the same refresh token may be tried again."""
        ...

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        """Make every refresh token of this grant REVOKED, and forget who has access by it."""
        ...


def to_the_hour(now: float) -> int:
    """What is stored of when a grant was used."""
    return int(now // _HOUR) * _HOUR
