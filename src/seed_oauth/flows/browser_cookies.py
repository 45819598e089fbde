"""Three kinds of cookies: for the browser, for what its user has consented to, and for who sees the account page.

Everything that is handed out during a login is bound to the browser, so that nobody can begin a login in their own
browser and have it finished in somebody else's, or the other way round (RFC 9700 §4.7; MCP Security Best Practices,
"Confused Deputy Problem").
"""

import hmac
import secrets
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from starlette.requests import Request, cookie_parser
from starlette.responses import Response

from seed_oauth.envelopes.seal import Purpose, Sealer, SealError
from seed_oauth.flows.transaction import SESSION_LIFETIME, Transaction
from seed_oauth.http.parameters import is_visible_ascii
from seed_oauth.outcomes import CallbackOutcome, ClientFamily, ConsentOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.protocol import base64url

_YEAR = 365 * 86_400  # seconds
_DAY = 86_400  # seconds
_MOST_REMEMBERED = 12
"""Consents, about 400 bytes of cookie each: web servers refuse more than 8 KiB of cookies."""

# RFC 6265bis §4.1.3.2: with this prefix neither another host nor plain http can set the cookie. Not every browser
# accepts it over http on loopback.
_NAMES = {
    secure: (prefix, f"{prefix}-consent-", f"{prefix}-account")
    for secure, prefix in ((True, "__Host-seed-oauth"), (False, "seed-oauth"))
}
"""How the names of cookies begin: all of them, those of consents, and that of the account page; by whether secure."""


class Consent(NamedTuple):
    """What a user is asked to consent to."""

    client_id: str
    redirect_host: str
    """The host that the user is sent to with a code, or the scheme of a native app."""
    scopes: tuple[str, ...]
    resource: str
    can_be_remembered: bool = False

    @classmethod
    def to(cls, transaction: Transaction) -> Self:
        """The consent that a transaction needs."""
        return cls(
            transaction.client_id,
            _host(transaction.redirect_uri),
            tuple((transaction.scope or "").split()),
            transaction.resource,
            transaction.consent_can_be_remembered,
        )


class BrowserCookies:
    """The browser that a request comes from."""

    def __init__(self, request: Request, sealer: Sealer, *, secure: bool, consent_days: float) -> None:
        """Read its cookies; a browser that has none yet gets its own with `keep_on`.

        `secure` tells whether browsers reach this server by https, `consent_days` how long a consent is remembered.
        """
        self._secure = secure
        self._prefix, self._consents, self._session = _NAMES[secure]
        self._cookies = _cookies(request)
        self._sealer = sealer
        self._days = consent_days
        # Two first logins at once give a browser two cookies; what was bound to either is bound to the browser.
        known = [value for name, value in self._cookies.items() if value and self._is_own(name)]
        self._bindings = [_binding(secret) for secret in known]
        self._secret = known[0] if known else secrets.token_urlsafe(16)
        self.binding = self._bindings[0] if known else _binding(self._secret)
        """What binds things to this browser; it does not reveal the cookie."""

    def is_bound_by(self, binding: str) -> bool:
        """Whether something with this binding is bound to this browser."""
        return any(hmac.compare_digest(known, binding) for known in self._bindings)

    def check_bound_by(
        self, binding: str, outcome: CallbackOutcome | ConsentOutcome, client_family: ClientFamily = ClientFamily.OTHER
    ) -> None:
        """Refuse anything that is bound to another browser (RFC 9700 §4.7).

        Raises:
            OAuthError: with `outcome`, and with what the user can do.
        """
        if not self.is_bound_by(binding):
            raise OAuthError(
                outcome,
                "this login began in another browser, or cookies are blocked: allow cookies for this site, go "
                "back to your application and connect again",
                client_family=client_family,
            )

    def keep_on(self, response: Response) -> Response:
        """Set the cookie that recognises this browser, unless it has one."""
        if not self._bindings:
            # A name of its own, or the cookie of a first login in another tab would replace this one.
            self._set(response, f"{self._prefix}-{secrets.token_hex(4)}", self._secret, _YEAR)
        return response

    def remembers(self, consent: Consent, now: float) -> str | None:
        """Who consented to at least this in the last `consent_days`, by their name of `consenting`; None for nobody.

        It is empty as long as the login in which they consented has not ended.
        """
        given = self._given(consent.client_id, consent.redirect_host, now)
        if given is None or not consent.can_be_remembered:
            return None
        scopes, resource, subject = given
        # A request without scopes asks for whatever the server allows, which is another question.
        covered = set(consent.scopes) <= set(scopes) and bool(consent.scopes) == bool(scopes)
        return subject if covered and resource == consent.resource else None

    def has_consented(self, client_id: str, redirect_uri: str, now: float) -> bool:
        """Whether its user has consented to this client at this host, whatever the scopes."""
        return self._given(client_id, _host(redirect_uri), now) is not None

    def remember(self, consent: Consent, response: Response, now: float, subject: str = "") -> None:
        """Set the cookie that remembers what the user has consented to, if it can be remembered.

        `subject` is their name by `consenting`, once they have logged in.
        """
        if not consent.can_be_remembered or self._days == 0:
            return
        given = [consent.client_id, consent.redirect_host, consent.scopes, consent.resource, self.binding, subject]
        cookie = self._sealer.seal(Purpose.REMEMBERED_CONSENT, given, now)
        name = self._name_of(consent.client_id, consent.redirect_host)
        self._set(response, name, cookie, int(self._days * _DAY))
        # RFC 6265 §5.4: of cookies with the same path a browser sends the oldest first.
        others = [known for known in self._cookies if known.startswith(self._consents) and known != name]
        for oldest in others[: 1 - _MOST_REMEMBERED]:
            self._set(response, oldest, "", 0)

    def sign_in(self, subject: str, response: Response, now: float) -> None:
        """Set the cookie with which this browser sees the account page of `subject`."""
        session = self._sealer.seal(Purpose.ACCOUNT_SESSION, [subject, self.binding], now)
        self._set(response, self._session, session, SESSION_LIFETIME)

    def signed_in(self, now: float) -> str | None:
        """The subject whose account page this browser sees; None for nobody."""
        cookie = self._cookies.get(self._session, "")
        try:
            subject, binding = self._sealer.open(Purpose.ACCOUNT_SESSION, cookie, lifetime=SESSION_LIFETIME, now=now)
        except SealError:
            return None
        return subject if self.is_bound_by(binding) else None

    def _given(self, client_id: str, host: str, now: float) -> tuple[list[str], str, str] | None:
        """The scopes and the resource of a consent that it remembers, and who gave it."""
        cookie = self._cookies.get(self._name_of(client_id, host))
        if cookie is None or self._days == 0:
            return None
        try:
            given = self._sealer.open(Purpose.REMEMBERED_CONSENT, cookie, lifetime=self._days * _DAY, now=now)
        except SealError:
            return None
        given_to, given_at, scopes, resource, binding, *subject = given
        known = (given_to, given_at) == (client_id, host) and self.is_bound_by(binding)
        # One of an earlier version does not say who gave it.
        return (scopes, resource, subject[0] if subject else "") if known else None

    def _is_own(self, name: str) -> bool:
        return name.startswith(self._prefix) and name != self._session and not name.startswith(self._consents)

    def _name_of(self, client_id: str, host: str) -> str:
        named = f"{client_id}\n{host}"
        return f"{self._consents}{sha256(named.encode()).hexdigest()[:16]}"

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        # Lax: the identity provider sends the browser back from another site.
        response.set_cookie(name, value, max_age=seconds, secure=self._secure, httponly=True, samesite="lax")


@lru_cache(maxsize=256)  # each login of a client asks for it twice
def _host(redirect_uri: str) -> str:
    url = urlsplit(redirect_uri)
    # The host of a private-use URI means nothing: any program may register the scheme (RFC 8252 §7.1).
    return (url.hostname or "") if url.scheme in {"http", "https"} else f"{url.scheme}:"


def _cookies(request: Request) -> dict[str, str]:
    """The request's cookies, without those whose names browsers and Python read differently.

    Python strips some characters as spaces that browsers treat as letters. A cookie that another host of the same
    domain has set, with such a character first, would otherwise become a `__Host-` cookie here.
    """
    fields = [value for name, value in request.scope["headers"] if name == b"cookie"]
    sent = b";".join(fields).decode("latin-1")
    if not is_visible_ascii(sent):
        sent = ";".join(filter(is_visible_ascii, sent.split(";")))
    return cookie_parser(sent)


def _binding(secret: str) -> str:
    return base64url.encoded(sha256(secret.encode()).digest()[:16])
