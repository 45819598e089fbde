"""What is raised where a request cannot succeed: an `OAuthError` names its row of the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from seed_oauth.outcomes import ClientFamily, Outcome


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where an authorization error may be delivered: a redirect_uri that was verified for its client."""

    redirect_uri: str
    state: str | None


@dataclass(eq=False)
class OAuthError(Exception):
    """A request ends in `outcome`, a row that is not a success.

    `description` is for the client's developer: it says what to do, keeps to the characters of RFC 6749
    §5.2, and never repeats a secret or what somebody else wrote.
    """

    outcome: Outcome
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)
    recipient: Recipient | None = None
    client_family: ClientFamily = ClientFamily.OTHER
    """That of the client that asked, where it is known."""

    def sent_to(self, redirect_uri: str, state: str | None) -> Self:
        """The same error, delivered to the client by redirect (RFC 6749 §4.1.2.1)."""
        self.recipient = Recipient(redirect_uri, state)
        return self


class StoreError(Exception):
    """The store cannot answer now: gone, locked, full or corrupt."""
