"""What a revocation says, and by which names what was issued is revoked."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from math import inf
from typing import NamedTuple, Protocol

from seed_oauth.envelopes.access_token import LONGEST_LIFETIME

UNDER_WAY = 600.0
"""Seconds after a revocation in which a refresh that was under way may still issue a token."""

KEPT = LONGEST_LIFETIME + UNDER_WAY
"""Seconds for which a revocation is kept."""

PAGE = 87_381
"""Revocations in one page: as many as fill a dict of 2^17 places, where each takes the least memory."""

PAGES = 12
"""Pages that a process has at most: 100 MB when all are full."""

CAPACITY = PAGE * PAGES
"""Revocations that a process or a store holds at most; the epoch moves with those that are forgotten before their
time."""

FOR_GOOD = inf
"""As `Revocation.before`: whenever a token was issued."""


class Revoked(StrEnum):
    """Whose tokens are void."""

    GRANT = "grant"
    CLIENT = "client"
    SUBJECT = "subject"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a kind of name
    ALL = "all"
    """Everybody's: the epoch moves."""


class Revocation(NamedTuple):
    """The access tokens of a grant, a client, a subject …, issued until a certain time, are void."""

    of: str
    """A `Revoked`; a newer release may have written another one, which concerns no token here."""
    name: str
    """The ID of the grant, the client_id, or the `hashed` subject, session or token ID; empty for ALL."""
    before: float
    """Seconds since the epoch; a token that was issued later is not void."""
    revoked_at: float
    """Seconds since the epoch."""


class RevocationStore(Protocol):
    """Stores revocations for all processes. Every method raises `StoreError` when it cannot answer."""

    async def add(self, revocation: Revocation) -> None:
        """Store one; when this returns, every process can read it."""
        ...

    async def unread(self) -> Sequence[Revocation]:
        """The next revocations that this object has not returned yet, the oldest first; none when it has read all."""
        ...


class Revocable(Protocol):
    """A token or a grant, as far as revocations concern it; see `VerifiedToken`."""

    @property
    def grant_id(self) -> str | None: ...
    @property
    def client_id(self) -> str | None: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def token_id(self) -> str | None: ...
    @property
    def issued_at(self) -> float: ...


class Issued(NamedTuple):
    """What was issued to a client for a user, whether it is a code or a token."""

    client_id: str | None
    subject: str | None
    issued_at: float
    session_id: str | None = None
    grant_id: str | None = None
    token_id: str | None = None


def hashed(name: str) -> str:
    """The name of a subject, a session or a token in the store, which need not know them."""
    return sha256(name.encode()).hexdigest()


def token_id(claims: Mapping[str, object]) -> str | None:
    """The ID of a JWT: `jti` (RFC 7519 §4.1.7), or `uti` as Entra ID calls it."""
    return next((name for name in (claims.get("jti"), claims.get("uti")) if isinstance(name, str)), None)


def epoch_after(forgotten_at: float, now: float) -> float:
    """Until when issued tokens are void once a revocation that was made at `forgotten_at` is forgotten."""
    return min(forgotten_at + UNDER_WAY, now)
