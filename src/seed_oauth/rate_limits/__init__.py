"""A rate limit for each endpoint, counted in this process, so that no request waits for a store."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from math import ceil
from time import time

from starlette.requests import ClientDisconnect, Request

from seed_oauth.clients.published import requesting_address
from seed_oauth.http.parameters import BodyTooLargeError, MalformedRequestError, read_form
from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    EndpointOutcomes,
    IntrospectionOutcome,
    LogoutOutcome,
    Outcome,
    RegistrationOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.rate_limits.client_address import ClientAddresses
from seed_oauth.settings.rate_limits import Rate, parse_rates

CAPACITY = 50_000
"""Keys that one window counts at most, about 6 MB; then it starts again from zero. Limits by address are no defence
against a flood from more addresses than that."""

SHARED_FROM = 0.1
"""The part of a limit that a key must have used in this process before the count is shared with other replicas. Most
keys never reach it, so most requests cost Redis nothing; with up to ten replicas nobody gets more than the limit."""

_DIGEST = 16  # bytes

_CREDENTIALS = ("code", "refresh_token", "token")

_Limited = (
    type[AuthorizationOutcome]
    | type[ConsentOutcome]
    | type[CallbackOutcome]
    | type[AccountOutcome]
    | type[TokenOutcome]
    | type[RegistrationOutcome]
    | type[RevocationOutcome]
    | type[LogoutOutcome]
)


class Window:
    """A fixed window, which counts the requests of each key and starts at the same time for all of them."""

    def __init__(self, name: str, rate: Rate, now: Callable[[], float]) -> None:
        """`now` counts seconds since the epoch, so that all replicas have the same windows."""
        self.name = f"{name}:{rate.amount}:{rate.seconds}"
        self.amount = rate.amount
        self.seconds = rate.seconds
        self.is_shared = False
        """Whether the counts are shared with other replicas."""
        self.number = 0
        self._now = now
        self._begin_anew()

    def wait(self, key: bytes) -> float:
        """The seconds until this key may send another request; 0 if it may now."""
        now = self._now()
        number = int(now // self.seconds)
        if number != self.number:  # also when the clock was set back
            self.number = number
            self._begin_anew()
        if self.counts.get(key, 0) + self.elsewhere.get(key, 0) < self.amount:
            return 0.0
        return (number + 1) * self.seconds - now

    def count(self, key: bytes) -> None:
        """Count one request."""
        counted = self.counts.get(key, 0)
        if counted == 0 and len(self.counts) >= CAPACITY:
            self._begin_anew()
        self.counts[key] = counted + 1
        if self.is_shared and counted + 1 > self.amount * SHARED_FROM:
            self.changed.add(key)

    def _begin_anew(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.elsewhere: dict[bytes, int] = {}
        """The counts of other replicas, as far as they are known."""
        self.changed: set[bytes] = set()
        """The keys whose counts the other replicas do not know yet."""


def windows(name: str, limits: str, now: Callable[[], float] = time) -> tuple[Window, ...]:
    """The windows of a setting such as `60/minute;1000/hour`; none when it is empty."""
    return tuple(Window(name, rate, now) for rate in parse_rates(limits))


class RateLimit:
    """The limit of one endpoint.

    A refused request is not counted, so a client in a loop uses up no limit but its own.
    """

    def __init__(
        self,
        outcome: Outcome,
        addresses: ClientAddresses,
        by_address: Sequence[Window],
        by_credential: Sequence[Window] = (),
    ) -> None:
        """`outcome` is the row of a request that exceeds the limit."""
        self._outcome = outcome
        self._addresses = addresses
        self._by_address = by_address
        self._by_credential = by_credential

    async def check(self, request: Request) -> None:
        """Count the request.

        Raises:
            OAuthError: it exceeds the limit; `Retry-After` says when to try again.
            MalformedRequestError, BodyTooLargeError, starlette.requests.ClientDisconnect: see `read_form`.
        """
        address = self._addresses.of(request.scope)
        requesting_address.set(address)
        by_address = self._by_address if address is not None else ()
        address = address or b""
        self._refuse_if_full(by_address, address)
        if self._by_credential:
            try:
                credentials = _credentials(address, await read_form(request))
            except (MalformedRequestError, BodyTooLargeError, ClientDisconnect):
                _count(by_address, address)
                raise
            for credential in credentials:
                self._refuse_if_full(self._by_credential, credential)
            for credential in credentials:
                _count(self._by_credential, credential)
        _count(by_address, address)

    def check_caller(self, name: str) -> None:
        """Count a request of somebody who is known otherwise than by their address.

        Raises:
            OAuthError: it exceeds the limit by address.
        """
        key = f"caller {name}".encode()  # longer than any address
        self._refuse_if_full(self._by_address, key)
        _count(self._by_address, key)

    def _refuse_if_full(self, windows: Iterable[Window], key: bytes) -> None:
        wait = 0.0
        for window in windows:
            wait = max(wait, window.wait(key))
        if wait:
            seconds = max(ceil(wait), 1)
            # RFC 6585 §4
            raise OAuthError(
                self._outcome, f"too many requests, try again in {seconds} seconds", {"Retry-After": str(seconds)}
            )


class RateLimits:
    """The limits of all endpoints.

    Each step of a login in a browser has its own count, and no step is more frequent than the first one, so a login
    that has begun can be finished. The protected resource has no limit here: only the MCP server knows the cost of a
    request, and refusing a bad token costs no more than refusing a request, unless the identity provider is asked.
    """

    def __init__(
        self,
        *,
        authorize: str = "",
        register: str = "",
        token: str = "",
        token_address: str = "",
        trusted_proxies: Sequence[str] = (),
        now: Callable[[], float] = time,
    ) -> None:
        """Limits are as in the settings: `60/minute;1000/hour`, and empty for none.

        Args:
            authorize: requests by address, at each step of a login in the browser.
            register: registrations by address.
            token: requests to the token and revocation endpoints by code or token.
            token_address: the same by address, back-channel logouts, and failures at the introspection endpoint.
            trusted_proxies: see `ClientAddresses`.
            now: counts seconds since the epoch.
        """
        addresses = ClientAddresses(trusted_proxies)
        uses = windows("token", token, now)
        users = windows("token_address", token_address, now)
        limited: list[tuple[_Limited, Sequence[Window], Sequence[Window]]] = [
            (TokenOutcome, users, uses),
            (RevocationOutcome, users, uses),
            (LogoutOutcome, windows("backchannel_logout", token_address, now), ()),
            (RegistrationOutcome, windows("register", register, now), ()),
            (AuthorizationOutcome, windows("authorize", authorize, now), ()),
            (ConsentOutcome, windows("consent", authorize, now), ()),
            (CallbackOutcome, windows("callback", authorize, now), ()),
            (AccountOutcome, windows("account", authorize, now), ()),
        ]
        failures = windows("introspection", token_address, now)
        self.windows = {window.name: window for _, *both in limited for some in both for window in some}
        self.windows |= {window.name: window for window in failures}
        """Every window by its name."""
        self.introspection_failures = RateLimit(IntrospectionOutcome.RATE_LIMITED, addresses, failures)
        """Bad credentials and tokens that are not active. Good ones are not counted: whoever sends made-up tokens to a
        resource server must not end the access of everybody else there."""
        self._limits: dict[EndpointOutcomes, RateLimit] = {
            outcomes: RateLimit(outcomes.RATE_LIMITED, addresses, by_address, by_credential)
            for outcomes, by_address, by_credential in limited
            if by_address or by_credential
        }

    def of(self, outcomes: EndpointOutcomes) -> RateLimit | None:
        """The limit of the endpoint that has these outcomes; None when it has none."""
        return self._limits.get(outcomes)


def _count(windows: Iterable[Window], key: bytes) -> None:
    for window in windows:
        window.count(key)


def _credentials(address: bytes, form: Mapping[str, str]) -> list[bytes]:
    """Hashes of the codes and tokens in a request.

    They tell the users of one vendor apart, who share its addresses and its client_id. Usually there is one. If there
    are several, each counts: an unused one must not hide a used one. They are hashed, because codes and tokens do not
    belong in memory or Redis; no form value contains a NUL.
    """
    client_id = form.get("client_id", "")
    used = [form[name] for name in _CREDENTIALS if name in form] or [""]
    return [sha256(f"{client_id}\0{one}\0".encode() + address).digest()[:_DIGEST] for one in used]
