"""The latest logins that failed, for the page: what the log says of them, without what names a person or a client."""

from collections import defaultdict, deque
from typing import NamedTuple

from seed_oauth.outcomes import AuthorizationOutcome, CallbackOutcome, ConsentOutcome, TokenOutcome

LOGIN = (AuthorizationOutcome, ConsentOutcome, CallbackOutcome, TokenOutcome)
"""The endpoints of a login."""

MOST_PER_CAUSE = 8
"""Kept of each cause, so that requests of strangers do not displace failures of this server."""


class FailedLogin(NamedTuple):
    """A request that ended a login. All values are from closed lists, except for the IDs: a random one and a hash."""

    at: float
    """Seconds since the epoch."""
    endpoint: str
    reason: str
    cause: str
    client_family: str
    correlation_id: str
    flow_id: str
    """Empty where the login had not begun."""


class FailedLogins:
    """The latest ones of each cause."""

    def __init__(self) -> None:
        self._by_cause: defaultdict[str, deque[FailedLogin]] = defaultdict(lambda: deque(maxlen=MOST_PER_CAUSE))

    def add(self, failed: FailedLogin) -> None:
        """Keep it, and forget the earliest one of its cause if there are too many."""
        self._by_cause[failed.cause].append(failed)

    def latest(self) -> list[FailedLogin]:
        """All that are kept, the latest first."""
        kept = (failed for failures in self._by_cause.values() for failed in failures)
        return sorted(kept, key=lambda failed: failed.at, reverse=True)
