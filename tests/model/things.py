"""What the model remembers of a login: who asked for what, and what the door and the identity provider handed out."""

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx


@dataclass(eq=False, kw_only=True)
class Software:
    """A client."""

    client_id: str
    secret: str | None
    method: str
    redirect_uris: tuple[str, ...]


UNKNOWN = Software(client_id="nobody", secret=None, method="none", redirect_uris=("https://app.example/callback",))


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """An envelope of the door's: what it was sealed with, and when by the door's clock."""

    envelope: str = field(repr=False)
    key: str = field(repr=False)
    at: int


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """A consent that a browser remembers."""

    scopes: frozenset[str]
    resource: str
    sealed: Sealed
    has_logged_in: bool
    """Whether the login has ended in which it was given; before, nobody knows whose it is."""


class Browser:
    """A browser, and the consents that it remembers, by client and host."""

    def __init__(self, number: int) -> None:
        self.cookies = httpx.Cookies()
        self.consents: dict[tuple[str, str], Remembered] = {}
        self._number = number

    def __repr__(self) -> str:
        return f"browser {self._number}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """An authorization request that passed every check."""

    client: Software
    browser: Browser
    redirect_uri: str
    state: str | None
    verifier: str
    scope: str | None
    resource: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Login:
    """A login at the identity provider: where the browser is to go, and the state that comes back from there."""

    asked: Asked
    url: str = field(repr=False)
    sealed: Sealed
    remember: bool = False
    """Whether the consent in it is to be remembered."""
    is_nobodys: bool = False
    """Whether it began with a consent that was remembered of nobody knows whom."""


@dataclass(eq=False, kw_only=True)
class IdpCode:
    """A code of the identity provider."""

    login: Login
    value: str = field(repr=False)
    issued_at: float
    spent: bool = False


@dataclass(eq=False, kw_only=True)
class IdpRefreshToken:
    """A refresh token of the identity provider."""

    issued_at: float
    gone: bool = False


@dataclass(eq=False, kw_only=True)
class Row:
    """What the door's store knows of a grant."""

    generation: int
    expires_at: float
    answered_at: float = 0.0
    described: bool = False
    """Whether the operator finds it."""
    answer: str | None = None
    """The key that the answer is sealed with which is kept for those who ask again."""
    revoked: bool = False


@dataclass(eq=False, kw_only=True)
class Granted:
    """A grant."""

    asked: Asked
    login_at: int
    """By the door's clock."""
    grant_id: str = ""
    """Once it has tokens."""
    row: Row | None = None
    redeemed: bool = False
    """Whether the tokens that waited for its code were taken."""
    worked: int = 0
    revoked: bool = False
    """Whether the client has revoked it, its code or a refresh token was used twice, or its user has left the group."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Waiting:
    """A login that has ended, and whose user is asked before the client gets a code."""

    login: Login
    idp: IdpCode | None
    grant: Granted
    issued_at: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Question:
    """A consent page."""

    asked: Asked
    sealed: Sealed
    waiting: Waiting | None = None


@dataclass(eq=False, kw_only=True)
class Code:
    """A code of the door's, and the grant that it stands for."""

    login: Login
    idp: IdpCode | None
    sealed: Sealed
    grant: Granted
    issued_at: float
    """By everybody's clock."""

    @property
    def asked(self) -> Asked:
        return self.login.asked


@dataclass(eq=False, kw_only=True)
class RefreshToken:
    """A refresh token of the door's."""

    grant: Granted
    generation: int
    idp: IdpRefreshToken
    sealed: Sealed
    worked_at: float | None = None
    """When it first worked, by the door's clock."""
    first_answer: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(eq=False, kw_only=True)
class AccessToken:
    """An access token of the door's own."""

    grant: Granted
    sealed: Sealed
    expires_at: int
    """By the door's clock."""


def challenge_of(verifier: str) -> str:
    """The S256 code_challenge (RFC 7636 §4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
