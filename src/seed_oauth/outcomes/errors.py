"""What is raised when a request cannot succeed: an `OAuthError` names its row of the table."""

import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from seed_oauth.outcomes.row import ClientFamily, Outcome

# Descriptions that more than one endpoint gives.
BAD_SCOPE = "scope must be a list of scope tokens, separated by single spaces"
NOT_CONFIGURED = (
    "this server is not connected to an identity provider yet: its operator can see at /readyz what is missing"
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where an authorization error may be delivered: a redirect_uri that was verified for its client."""

    redirect_uri: str
    state: str | None
    automatic: bool = True
    """Whether the browser is sent there by itself, or shown a page with a link (RFC 9700 §4.11.2)."""


@dataclass(eq=False)
class OAuthError(Exception):
    """A request ends in `outcome`, a row that is not a success.

    Whoever raises it decides all of it: the row, and how the error is delivered. Nobody changes it afterwards.

    `description` is for the client's developer: it says what to do, keeps to the characters of RFC 6749
    §5.2, and never repeats a secret or anything that another party wrote.
    """

    outcome: Outcome
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)
    recipient: Recipient | None = None
    """The client to which the error is delivered (RFC 6749 §4.1.2.1); None answers the request itself."""
    client_family: ClientFamily = ClientFamily.OTHER
    """The family of the client that asked, where it is known."""
    log_fields: Mapping[str, object] = field(default_factory=dict)
    """What only the log says of it."""
    other_account: str | None = None
    """Where the user can log in with another account; shown on the page."""


@dataclass(eq=False)
class JsonRpcError(OAuthError):
    """A request to the MCP server ends in `outcome`, and its client reads the error as JSON-RPC.

    The body of the response is a JSON-RPC error with `code` and the description: clients show that to their users.
    """

    code: int = 0
    request_id: str | int | None = None


class StoreError(Exception):
    """The store cannot answer now: it is unreachable, locked, full or corrupt. The message says why, in words."""


def in_words(failure: BaseException) -> str:
    """Why a file or another server cannot be used. Messages of libraries are not repeated: they may contain secrets."""
    reason: BaseException | None = failure
    while reason is not None:
        if isinstance(reason, TimeoutError):
            return "no answer in time"
        if isinstance(reason, socket.gaierror):
            return "the name cannot be resolved"
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {reason.verify_message}"
        if isinstance(reason, ssl.SSLError):
            return "TLS fails"
        if isinstance(reason, OSError) and reason.errno:
            return os.strerror(reason.errno)
        reason = reason.__cause__ or reason.__context__
    return "it cannot be reached"
