"""How often may one ask? A limit for each endpoint, counted where the request is, so that it costs next to nothing.

Limits are written in the notation of the `limits` library. Its storages are not used: in memory it starts a thread
and walks over all keys after nearly every request, and keeps as many as are sent; in Redis every request would wait.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from math import ceil
from time import time

from limits import RateLimitItem, parse_many
from starlette.requests import ClientDisconnect, Request

from seed_oauth.errors import OAuthError
from seed_oauth.http.parameters import BodyTooLargeError, MalformedRequestError, read_form
from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    EndpointOutcomes,
    Outcome,
    RegistrationOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.rate_limits.client_address import ClientAddresses
from seed_oauth.settings import Settings

CAPACITY = 50_000
"""Keys that one limit counts at most, some 6 MB of them; then it begins anew. A flood from more addresses than that
is not to be met by limits of addresses."""

SHARED_FROM = 0.1
"""The part of a limit that a key must have used up here before other replicas are told. Most keys never do, so that
most requests are none of Redis' business; with up to ten replicas nobody gets more than the limit by that."""

_DIGEST = 16  # bytes

_CREDENTIALS = ("code", "refresh_token", "token")

_Limited = (
    type[AuthorizationOutcome]
    | type[ConsentOutcome]
    | type[CallbackOutcome]
    | type[TokenOutcome]
    | type[RegistrationOutcome]
    | type[RevocationOutcome]
)


class Window:
    """A fixed window: how many requests each key has had in the current one. All keys begin a new one together."""

    def __init__(self, name: str, limit: RateLimitItem, now: Callable[[], float]) -> None:
        """`now` counts seconds since the epoch, by which replicas have the same windows."""
        self.name = f"{name}:{limit.amount}:{limit.get_expiry()}"
        self.amount = limit.amount
        self.seconds = limit.get_expiry()
        self.is_shared = False
        """Whether other replicas are to be told."""
        self.number = 0
        self._now = now
        self._begin_anew()

    def wait(self, key: bytes) -> float:
        """The seconds until this key may ask again; 0 when it may now."""
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
        """What other replicas have counted, as far as it is known."""
        self.changed: set[bytes] = set()
        """The keys whose counts are news for other replicas."""


def windows(name: str, limits: str, now: Callable[[], float] = time) -> tuple[Window, ...]:
    """The windows of a setting's limits; none when it is empty."""
    return tuple(Window(name, limit, now) for limit in parse_many(limits)) if limits else ()


class RateLimit:
    """The limit of one endpoint.

    A request that is refused counts nowhere: a client that loops spends nobody's limit but its own.
    """

    def __init__(
        self,
        outcome: Outcome,
        addresses: ClientAddresses,
        by_address: Sequence[Window],
        by_credential: Sequence[Window] = (),
    ) -> None:
        """`outcome` is the row that a request ends in which is one too many."""
        self._outcome = outcome
        self._addresses = addresses
        self._by_address = by_address
        self._by_credential = by_credential

    async def check(self, request: Request) -> None:
        """Count the request, if there may be one more.

        Raises:
            OAuthError: there may be none now; says when.
            MalformedRequestError, BodyTooLargeError, starlette.requests.ClientDisconnect: see `read_form`.
        """
        address = self._addresses.of(request.scope)
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

    A login that has begun is finished: each step of it in a browser is counted by itself, and none comes more often
    than the first one. The protected resource has no limit here: only the MCP server knows what a request costs it,
    and to refuse a bad token costs no more than to refuse a request, where the identity provider need not be asked.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time) -> None:
        """`now` counts seconds since the epoch."""
        addresses = ClientAddresses(settings.trusted_proxies)
        uses = windows("token", settings.rate_limit_token, now)
        users = windows("token_address", settings.rate_limit_token_address, now)
        limited: list[tuple[_Limited, Sequence[Window], Sequence[Window]]] = [
            (TokenOutcome, users, uses),
            (RevocationOutcome, users, uses),
            (RegistrationOutcome, windows("register", settings.rate_limit_register, now), ()),
            (AuthorizationOutcome, windows("authorize", settings.rate_limit_authorize, now), ()),
            (ConsentOutcome, windows("consent", settings.rate_limit_authorize, now), ()),
            (CallbackOutcome, windows("callback", settings.rate_limit_authorize, now), ()),
        ]
        self.windows = {window.name: window for _, *both in limited for some in both for window in some}
        """Every window by its name."""
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


def _credentials(address: bytes, form: dict[str, str]) -> list[bytes]:
    """What tells one user of a vendor from another: they share its addresses, and its client_id.

    Most often it is one. Of several each counts, because a new one beside it must not make an old one new. Hashes,
    because neither memory nor Redis is to hold codes and tokens; no value of a form has a NUL.
    """
    client_id = form.get("client_id", "")
    used = [form[name] for name in _CREDENTIALS if name in form] or [""]
    return [sha256(f"{client_id}\0{one}\0".encode() + address).digest()[:_DIGEST] for one in used]
