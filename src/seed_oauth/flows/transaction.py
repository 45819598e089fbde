"""The state of a login, which travels in sealed envelopes, so that this server stores nothing.

Each envelope is a JSON array, to keep URLs short; the names of its elements are here.
"""

import secrets
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, Self

from seed_oauth.access.identity import Identity
from seed_oauth.envelopes.seal import Purpose, Sealer
from seed_oauth.outcomes import ClientFamily
from seed_oauth.outcomes.errors import Recipient
from seed_oauth.protocol import base64url

DECISION_LIFETIME = 600
"""Seconds that a person has to answer the consent page."""
LOGIN_LIFETIME = 1800
"""Seconds that a person may spend at the identity provider: some have to find their phone first."""
SESSION_LIFETIME = 600
"""Seconds for which a user who has signed in can use the account page."""
CODE_LIFETIME = 60
"""Seconds in which a client has to redeem its code (RFC 6749 §4.1.2 allows ten minutes at most)."""

OF_ACCOUNT = "account."
"""How the state of a login to the account page begins, so that no other is tried to be opened as one."""

FLOW_ID = 12
"""Characters of a flow_id; a grant_id begins with it."""


class Transaction(NamedTuple):
    """An authorization request in progress."""

    client_id: str
    """Empty where no client has asked: the user signs in to the account page."""
    client_family: str
    redirect_uri: str
    state: str | None
    code_challenge: str
    scope: str | None
    resource: str
    browser: str
    """The binding to the browser in which it began."""
    consent_can_be_remembered: bool = False
    remember: bool = False
    """Whether its user wants the consent to be remembered."""
    consented_as: str | None = None
    """Whose consent the browser remembers (`consenting`), empty for one whose login never ended; None if its user has
    consented in this login, or need not."""
    client_name: str = ""
    """What the client calls itself, where its user may still be asked."""
    login: Sequence[str] = ()
    """The secret and the grant_id of the code that waits, where its user has logged in before being asked."""

    @property
    def recipient(self) -> Recipient:
        """Where its errors are delivered: the redirect_uri was verified when it began."""
        return Recipient(self.redirect_uri, self.state)

    @property
    def flow_id(self) -> str:
        """What its log lines have in common."""
        return flow_id(self.client_id, self.code_challenge)

    @property
    def family(self) -> ClientFamily:
        """The family of its client."""
        return ClientFamily(self.client_family)

    def awaiting_decision(self, sealer: Sealer, now: float) -> str:
        """The transaction while its user is asked for consent."""
        return sealer.seal(Purpose.CONSENT, [*self], now)

    @classmethod
    def decided(cls, sealer: Sealer, envelope: str, now: float) -> Self:
        """The transaction that a user has decided on.

        Raises:
            SealError: it was not sealed here, or has expired.
        """
        return cls(*sealer.open(Purpose.CONSENT, envelope, lifetime=DECISION_LIFETIME, now=now))


class IdpLogin(NamedTuple):
    """A transaction whose user is at the identity provider."""

    transaction: Transaction
    secret: str
    """Our code_verifier and nonce at the identity provider are derived from it."""
    begun_at: float
    """Seconds since the epoch."""

    @classmethod
    def begin(cls, transaction: Transaction, now: float) -> Self:
        """A new login, with a new secret."""
        return cls(transaction, secrets.token_urlsafe(24), round(now, 1))

    def state(self, sealer: Sealer, now: float) -> str:
        """The `state` that the identity provider is given and gives back."""
        content = [self.secret, self.begun_at, *self.transaction]
        if self.transaction.client_id:
            return sealer.seal(Purpose.STATE, content, now)
        return OF_ACCOUNT + sealer.seal(Purpose.ACCOUNT_STATE, content, now)

    @classmethod
    def returned(cls, sealer: Sealer, state: str, now: float) -> Self:
        """The login that the identity provider sends back.

        Raises:
            SealError: it was not sealed here, or has expired.
        """
        purpose = Purpose.ACCOUNT_STATE if state.startswith(OF_ACCOUNT) else Purpose.STATE
        envelope = state.removeprefix(OF_ACCOUNT)
        secret, begun_at, *transaction = sealer.open(purpose, envelope, lifetime=LOGIN_LIFETIME, now=now)
        return cls(Transaction(*transaction), secret, begun_at)


class Code(NamedTuple):
    """The content of our own code. It can be used once, because the tokens that it stands for are taken once."""

    secret: str
    """The tokens are stored under a name, and sealed with a key, that are derived from it."""
    grant_id: str
    client_id: str
    redirect_uri: str
    code_challenge: str
    resource: str

    @classmethod
    def of(cls, grant: "Grant", transaction: Transaction) -> Self:
        """The code for a login that has succeeded, with a new secret."""
        return cls.waiting(transaction, secrets.token_urlsafe(24), grant.grant_id)

    @classmethod
    def waiting(cls, transaction: Transaction, secret: str, grant_id: str) -> Self:
        """The code of a transaction whose user has logged in, with what `Transaction.login` has."""
        bound_to = transaction.client_id, transaction.redirect_uri, transaction.code_challenge, transaction.resource
        return cls(secret, grant_id, *bound_to)

    def sealed(self, sealer: Sealer, now: float) -> str:
        """The code as the client gets it."""
        return sealer.seal(Purpose.CODE, [*self], now)

    @classmethod
    def opened(cls, sealer: Sealer, code: str, now: float) -> Self:
        """The code that a client presents.

        Raises:
            SealError: it was not sealed here, or has expired.
        """
        return cls(*sealer.open(Purpose.CODE, code, lifetime=CODE_LIFETIME, now=now))


class Grant(NamedTuple):
    """What a user has granted a client, as its refresh token holds it."""

    grant_id: str
    generation: int
    """How often it was refreshed."""
    client_id: str
    scope: str | None
    resource: str
    subject: str | None
    """The user, by the identity provider's name for them; None when it did not say."""
    login_at: int
    """When its user logged in, in seconds since the epoch; refreshes do not change it."""
    idp_refresh_token: str = ""
    requested: str | None = None
    """The scope that the client asked for; the identity provider may call it otherwise."""
    idp_scope: str | None = None
    """What the identity provider is asked for when the grant is refreshed."""
    user: Sequence[object] | None = None
    """The user, as `Identity` has been sealed; None in a grant of an earlier version, or where nothing is known."""

    @property
    def flow_id(self) -> str:
        """What the log lines of the login have in common."""
        return self.grant_id[:FLOW_ID]

    @classmethod
    def by(
        cls,
        begun: Transaction,
        scope: str | None,
        user: Identity | None,
        now: float,
        *,
        idp_refresh_token: str = "",
        idp_scope: str | None = None,
    ) -> Self:
        """The grant of a login that has succeeded, of the scope that the identity provider has granted."""
        grant_id = begun.flow_id + secrets.token_urlsafe(16)
        granted = grant_id, 0, begun.client_id, scope, begun.resource, None, int(now)
        return cls(*granted, idp_refresh_token, begun.scope, idp_scope).of(user)

    def of(self, user: Identity | None) -> Self:
        """The grant with what is known of its user now."""
        return self if user is None else self._replace(subject=user.subject, user=user.content)

    @property
    def identity(self) -> Identity | None:
        """The user, as they were known last."""
        return Identity.opened(self.user)

    def refreshed(self) -> Self:
        """The grant after one more refresh."""
        return self._replace(generation=self.generation + 1)

    def sealed(self, sealer: Sealer, now: float) -> str:
        """The refresh token as the client gets it."""
        return sealer.seal(Purpose.REFRESH_TOKEN, [*self], now)

    @classmethod
    def opened(cls, sealer: Sealer, refresh_token: str, *, lifetime: float, now: float) -> Self:
        """The refresh token that a client presents.

        Raises:
            SealError: it was not sealed here, or is more than `lifetime` seconds old.
        """
        return cls(*sealer.open(Purpose.REFRESH_TOKEN, refresh_token, lifetime=lifetime, now=now))


def consenting(subject: str | None) -> str:
    """What a remembered consent has of the user who gave it."""
    return sha256(f"subject:{subject or ''}".encode()).hexdigest()[:16]


@lru_cache(maxsize=1024)  # each step of a login asks for it
def flow_id(client_id: str, code_challenge: str) -> str:
    """What the log lines of one login have in common, from the authorization request to the last refresh."""
    return sha256(f"flow:{client_id}:{code_challenge}".encode()).hexdigest()[:FLOW_ID]


def code_verifier(secret: str) -> str:
    """Our code_verifier at the identity provider (RFC 7636 §4.1: 43 characters)."""
    return _derived(secret, "code_verifier")


def code_challenge(verifier: str) -> str:
    """The S256 code_challenge of a code_verifier (RFC 7636 §4.2)."""
    return base64url.encoded(sha256(verifier.encode()).digest())


def nonce(secret: str) -> str:
    """The nonce that the ID token of this login has to repeat (OpenID Connect Core §3.1.2.1)."""
    return _derived(secret, "nonce")


def _derived(secret: str, name: str) -> str:
    return base64url.encoded(sha256(f"{name}:{secret}".encode()).digest())
