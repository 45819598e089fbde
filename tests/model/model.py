"""What the door has to answer, and why: the protocol's rules once more, in the fewest words.

Nothing here is taken from the code that it predicts but the names of the rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import urlsplit

from hypothesis import assume

from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    GrantType,
    Outcome,
    RevocationOutcome,
    TokenOutcome,
)
from tests.model.things import (
    AccessToken,
    Asked,
    Browser,
    Code,
    Granted,
    IdpCode,
    Login,
    Question,
    RefreshToken,
    Remembered,
    Row,
    Sealed,
    Software,
    challenge_of,
)

DECISION, LOGIN, CODE, GRACE, DAY = 600, 1800, 60, 30, 86_400  # seconds
REFRESH_TOKEN_DAYS = 1.0
CONSENT_DAYS = 0.5
GROUP = "staff"
"""Whose members may come in."""
UNASKED = "admin"
"""The scope that the identity provider adds to what it is asked for."""
RESOURCES = ("https://door.example/mcp", "https://door.example/other")

_IDP_CODE = 60
_IDP_REFRESH_TOKEN = DAY


@dataclass(frozen=True, eq=False, kw_only=True)
class Ended:
    """What the operator has ended: the access of a user, of a client, or of everybody."""

    how: str
    of: Granted
    """A grant of the same user or client."""
    before: float

    def has(self, grant: Granted) -> bool:
        # There is one person only, and userinfo names them in every login.
        return self.how in {"user", "everybody"} or grant.asked.client is self.of.asked.client


class Opened(Enum):
    """What comes of opening an envelope."""

    GOOD = auto()
    EXPIRED = auto()
    FOREIGN = auto()


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """How a request ends, and what is asked of the identity provider for it."""

    row: Outcome
    exchange: tuple[GrantType, bool] | None = None
    """For which grant, and whether it succeeds."""
    looks_up: bool = False
    """Whether the identity provider is asked who the user is."""
    revokes: bool = False
    again: bool = False
    """Whether it is the answer that was given before."""


@dataclass(frozen=True, kw_only=True)
class Redemption:
    """A token request for a code, after the client was authenticated."""

    client: Software
    code: Code
    verifier: str | None
    redirect_uri: str | None
    resource: str | None


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """A token request for a refresh token, after the client was authenticated."""

    client: Software
    token: RefreshToken
    scope: str | None
    resource: str | None


class Model:
    """The clocks, the keys and the grants."""

    def __init__(self) -> None:
        self.elapsed = 1_800_000_000.0
        """Seconds by the clock on everybody's wall, the identity provider's too."""
        self.ahead = 0.0
        """How many seconds the door's clock is ahead of it."""
        self.keys: Sequence[str] = ()
        self.grants: list[Granted] = []
        self.ended: list[Ended] = []
        self.is_member = True
        """Whether the user is in the group whose members may come in."""
        self.has_idp_session = True
        """Whether the identity provider refreshes."""

    def now(self) -> float:
        """What the door's clock says."""
        return self.elapsed + self.ahead

    def sealed(self, envelope: str) -> Sealed:
        """An envelope that the door has just sealed."""
        return Sealed(envelope=envelope, key=self.keys[0], at=int(self.now()))

    def opened(self, sealed: Sealed, lifetime: float) -> Opened:
        if sealed.key not in self.keys:
            return Opened.FOREIGN
        return Opened.EXPIRED if sealed.at + lifetime < int(self.now()) else Opened.GOOD

    def asks(self, asked: Asked) -> Predicted:
        """A good authorization request."""
        if self.has_consented(asked):
            given, wanted = asked.browser.consents[asked.client.client_id, host_of(asked)], scopes_of(asked.scope)
            covered = wanted <= given.scopes and bool(wanted) == bool(given.scopes)
            if covered and given.resource == asked.resource:
                return Predicted(row=AuthorizationOutcome.REDIRECTED_TO_IDP)
        return Predicted(row=AuthorizationOutcome.CONSENT_ASKED)

    def has_consented(self, asked: Asked) -> bool:
        """Whether the browser remembers a consent to this client at this host, whatever for."""
        remembered = asked.browser.consents.get((asked.client.client_id, host_of(asked)))
        return remembered is not None and self.opened(remembered.sealed, CONSENT_DAYS * DAY) is Opened.GOOD

    def decides(self, question: Question, browser: Browser, decision: str | None) -> Predicted:
        return Predicted(row=self._decision(question, browser, decision))

    def _decision(self, question: Question, browser: Browser, decision: str | None) -> ConsentOutcome:
        opened = self.opened(question.sealed, DECISION)
        if opened is not Opened.GOOD:
            return ConsentOutcome.EXPIRED if opened is Opened.EXPIRED else ConsentOutcome.BAD_ENVELOPE
        if browser is not question.asked.browser:
            return ConsentOutcome.OTHER_BROWSER
        rows = {"approve": ConsentOutcome.APPROVED, "deny": ConsentOutcome.DENIED}
        if question.waiting is not None:
            rows = {"approve": ConsentOutcome.APPROVED_AFTER_LOGIN, "deny": ConsentOutcome.DENIED_AFTER_LOGIN}
        return rows.get(decision or "", ConsentOutcome.NO_DECISION)

    def returns(
        self, login: Login, browser: Browser, iss: str | None, error: str | None, code: IdpCode | None
    ) -> Predicted:
        """Come back from the identity provider, whose code is spent by it."""
        if refusal := self._return_refusal(login, browser, iss, error):
            return Predicted(row=refusal)
        if code is None:
            return Predicted(row=CallbackOutcome.NO_CODE)
        succeeded = self._is_redeemed(code, login)
        row = CallbackOutcome.CONSENT_ASKED if login.is_nobodys else CallbackOutcome.RETURNED
        row = row if self.is_member else CallbackOutcome.NOT_ALLOWED
        row = row if succeeded else CallbackOutcome.IDP_INVALID_GRANT
        return Predicted(row=row, exchange=(GrantType.AUTHORIZATION_CODE, succeeded), looks_up=succeeded)

    def _return_refusal(
        self, login: Login, browser: Browser, iss: str | None, error: str | None
    ) -> CallbackOutcome | None:
        opened = self.opened(login.sealed, LOGIN)
        if opened is not Opened.GOOD:
            return CallbackOutcome.EXPIRED if opened is Opened.EXPIRED else CallbackOutcome.BAD_STATE
        if browser is not login.asked.browser:
            return CallbackOutcome.OTHER_BROWSER
        if iss != "https://idp.example":
            return CallbackOutcome.WRONG_ISSUER
        if error is not None:
            return CallbackOutcome.DENIED if error == "access_denied" else CallbackOutcome.IDP_REFUSED
        return None

    def is_fresh(self, code: Code) -> bool:
        """Whether it could still be redeemed, if it was not yet."""
        return self.opened(code.sealed, CODE) is Opened.GOOD

    def redeems(self, sent: Redemption) -> Predicted:
        """Take the tokens that wait for a code; without any, somebody has the code who should not."""
        if refusal := self._code_refusal(sent):
            return Predicted(row=refusal)
        if sent.code.grant.redeemed:
            self._revoke(sent.code.grant)
            return Predicted(row=TokenOutcome.CODE_REUSED)
        sent.code.grant.redeemed = True
        grant = sent.code.grant
        self._forget(sent.code.sealed.at)
        expires_at = self.now() + REFRESH_TOKEN_DAYS * DAY
        grant.row = grant.row or Row(generation=0, expires_at=expires_at, described=True)
        if self.is_ended(grant, grant.login_at):
            self._revoke(grant)
            return Predicted(row=TokenOutcome.GRANT_REVOKED)
        return Predicted(row=TokenOutcome.EXCHANGED)

    def ends(self, how: str, of: Granted) -> None:
        """The operator ends a grant, or all that are like it, and whatever else was issued until now."""
        ended = Ended(how=how, of=of, before=self.now())
        if how != "grant":
            self.ended.append(ended)
        for grant in self.grants:
            if self._is_listed(grant) and (grant is of if how == "grant" else ended.has(grant)):
                self._revoke(grant)

    def user_ends(self, grant: Granted, *, everything: bool) -> Predicted:
        """The user ends a grant on the account page, or all there are."""
        if not everything and not self._is_listed(grant):
            return Predicted(row=AccountOutcome.NOTHING_TO_REVOKE)
        self.ends("user" if everything else "grant", grant)
        return Predicted(row=AccountOutcome.REVOKED)

    def _is_listed(self, grant: Granted) -> bool:
        row = grant.row
        return row is not None and row.described and row.expires_at >= self.now()

    def is_ended(self, grant: Granted, issued_at: float) -> bool:
        """Whether the operator has ended what was issued then."""
        by = [one for one in self.ended if one.has(grant) and issued_at <= one.before]
        # What is older is forgotten sooner or later, which matters only to a clock that is set back.
        assume(all(self.now() - one.before < DAY for one in by))
        return bool(by)

    def _code_refusal(self, sent: Redemption) -> TokenOutcome | None:
        if sent.verifier is None or not 43 <= len(sent.verifier) <= 128:
            return TokenOutcome.BAD_CODE_VERIFIER
        if sent.redirect_uri is not None and not is_registered(sent.redirect_uri, sent.client):
            return TokenOutcome.BAD_REDIRECT_URI
        if sent.resource not in {None, *RESOURCES}:
            return TokenOutcome.BAD_RESOURCE
        if not self.is_fresh(sent.code):
            return TokenOutcome.BAD_CODE
        asked = sent.code.asked
        if sent.client is not asked.client:
            return TokenOutcome.BAD_CODE
        if sent.redirect_uri not in {None, asked.redirect_uri}:
            return TokenOutcome.BAD_REDIRECT_URI
        if challenge_of(sent.verifier) != challenge_of(asked.verifier):
            return TokenOutcome.BAD_CODE_VERIFIER
        return TokenOutcome.BAD_RESOURCE if sent.resource not in {None, asked.resource} else None

    def _is_redeemed(self, idp: IdpCode, login: Login) -> bool:
        lasts = self.elapsed < idp.issued_at + _IDP_CODE
        good = lasts and not idp.spent and idp.login is login
        idp.spent = True
        return good

    def refreshes(self, sent: Refresh) -> Predicted:
        """Spend a refresh token."""
        if refusal := self._refresh_refusal(sent):
            return Predicted(row=refusal)
        grant, generation, now = sent.token.grant, sent.token.generation, self.now()
        if self.is_ended(grant, grant.login_at):
            return Predicted(row=TokenOutcome.GRANT_REVOKED)
        row = grant.row
        if row is not None and row.revoked:
            return Predicted(row=TokenOutcome.REFRESH_TOKEN_REVOKED)
        if row is not None and generation == row.generation - 1 and row.answer and now - row.answered_at <= GRACE:
            opens = row.answer in self.keys
            return Predicted(row=TokenOutcome.REFRESHED if opens else TokenOutcome.STORE_FAILED, again=opens)
        if row is not None and generation < row.generation:
            self._revoke(grant)
            sent.token.idp.gone = True
            return Predicted(row=TokenOutcome.REFRESH_TOKEN_REUSED, revokes=True)
        return self._lease(sent.token)

    def _lease(self, token: RefreshToken) -> Predicted:
        now = self.now()
        self._forget(now)
        expires_at = now + REFRESH_TOKEN_DAYS * DAY
        row = token.grant.row = token.grant.row or Row(generation=0, expires_at=0)
        row.generation, row.expires_at = token.generation, expires_at
        succeeded = (
            self.has_idp_session and not token.idp.gone and self.elapsed < token.idp.issued_at + _IDP_REFRESH_TOKEN
        )
        if not succeeded:
            return Predicted(row=TokenOutcome.IDP_INVALID_GRANT, exchange=(GrantType.REFRESH_TOKEN, False))
        token.idp.gone = True
        if not self.is_member:
            self._revoke(token.grant)
            return Predicted(row=TokenOutcome.NOT_ALLOWED, exchange=(GrantType.REFRESH_TOKEN, True), looks_up=True)
        row.generation, row.answered_at = token.generation + 1, now
        row.answer = self.keys[0]
        return Predicted(row=TokenOutcome.REFRESHED, exchange=(GrantType.REFRESH_TOKEN, True), looks_up=True)

    def _refresh_refusal(self, sent: Refresh) -> TokenOutcome | None:
        if sent.scope is not None and "  " in sent.scope:
            return TokenOutcome.BAD_SCOPE
        if sent.resource not in {None, *RESOURCES}:
            return TokenOutcome.BAD_RESOURCE
        if self.opened(sent.token.sealed, REFRESH_TOKEN_DAYS * DAY) is not Opened.GOOD:
            return TokenOutcome.BAD_REFRESH_TOKEN
        asked = sent.token.grant.asked
        if sent.client is not asked.client:
            return TokenOutcome.BAD_REFRESH_TOKEN
        if sent.scope is not None and not scopes_of(sent.scope) <= scopes_of(asked.scope):
            return TokenOutcome.BAD_SCOPE
        return TokenOutcome.BAD_RESOURCE if sent.resource not in {None, asked.resource} else None

    def revokes(self, token: RefreshToken | None, client: Software) -> Predicted:
        """Revoke a token; one that is none of ours may be the identity provider's own."""
        if token is None or (opened := self.opened(token.sealed, REFRESH_TOKEN_DAYS * DAY)) is Opened.FOREIGN:
            return Predicted(row=RevocationOutcome.REVOKED, revokes=True)
        if opened is Opened.EXPIRED or client is not token.grant.asked.client:
            return Predicted(row=RevocationOutcome.REVOKED)
        self._revoke(token.grant)
        token.idp.gone = True
        return Predicted(row=RevocationOutcome.REVOKED, revokes=True)

    def admits(self, token: AccessToken) -> bool:
        """Whether the MCP server lets somebody in with it."""
        known = self.opened(token.sealed, DAY) is Opened.GOOD
        ended = token.grant.revoked or self.is_ended(token.grant, token.sealed.at)
        return known and self.now() < token.expires_at and not ended

    def _forget(self, now: float) -> None:
        for grant in self.grants:
            if grant.row is not None and grant.row.expires_at < now:
                grant.row = None

    def _revoke(self, grant: Granted) -> None:
        grant.revoked = True
        row = grant.row = grant.row or Row(generation=0, expires_at=0)
        row.revoked, row.described, row.answer = True, False, None
        row.expires_at = self.now() + REFRESH_TOKEN_DAYS * DAY

    def remembers(self, asked: Asked, *, has_logged_in: bool) -> None:
        """A consent that its browser remembers from now on, unless it is to a native app."""
        if not asked.redirect_uri.startswith("https://"):
            return
        given = Remembered(
            scopes=scopes_of(asked.scope), resource=asked.resource, sealed=self.sealed(""), has_logged_in=has_logged_in
        )
        asked.browser.consents[asked.client.client_id, host_of(asked)] = given


def granted(scope: str | None) -> str:
    """The scope that a client gets which asks for `scope`: no more than it named, and all there is if it named none."""
    return UNASKED if scope is None else scope


def host_of(asked: Asked) -> str:
    """Where a consent sends people to: a host, or the scheme of a native app."""
    url = urlsplit(asked.redirect_uri)
    return url.hostname or "" if url.scheme in {"http", "https"} else f"{url.scheme}:"


def scopes_of(scope: str | None) -> frozenset[str]:
    return frozenset((scope or "").split())


def is_registered(uri: str, client: Software) -> bool:
    """As it was registered, but for the port on loopback (RFC 8252 §7.3)."""
    return re.sub(r"(?<=^http://127\.0\.0\.1):\d+(?=/)", "", uri) in client.redirect_uris
