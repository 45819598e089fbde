"""A row of the table, and the closed lists of labels that rows are counted with."""

from enum import Enum, StrEnum
from typing import Self


class Cause(StrEnum):
    """Who has to act so that this does not happen again (label `cause` of `oauth_errors_total`)."""

    CLIENT = "client"
    """The MCP client: it sent something that it must not send."""
    USER = "user"
    """The person who logs in: they gave up, or took too long."""
    IDP = "idp"
    """The identity provider."""
    SERVER = "server"
    """This server: its settings, its store, its code."""


class GrantType(StrEnum):
    """The grants that are proxied (label `grant_type`)."""

    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant (RFC 6749 §6)


class ClientFamily(StrEnum):
    """Label `client_family`: a closed list, because clients must not be able to make up label values."""

    CLAUDE = "claude"
    CHATGPT = "chatgpt"
    CODEX = "codex"
    VSCODE = "vscode"
    CURSOR = "cursor"
    INSPECTOR = "inspector"
    OTHER = "other"

    @classmethod
    def _missing_(cls, _value: object) -> Self:
        # Another release may have stored a family that this one does not know.
        return cls.OTHER


class Check(StrEnum):
    """Label `check` of `seed_oauth_ready`: what requests need."""

    SETTINGS = "settings"
    STORE = "store"
    IDP = "idp"
    """The identity provider answers with its metadata, where they are read from an issuer."""
    MCP_SERVER = "mcp_server"
    """The MCP server behind the reverse proxy, if there is one, accepts connections."""


class Outcome(Enum):
    """A row of the table. Each endpoint has its own enum of them, below."""

    def __new__(cls, *_row: object) -> Self:
        # Rows with equal columns are still different outcomes, so a member's value is its position.
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, result: str | None, error: str | None, status: int, cause: Cause | None) -> None:
        self.result = result
        """The `result` label of the endpoint's own counter; None where the endpoint has none."""
        self.error = error
        """The `error` code on the wire (RFC 6749 §4.1.2.1, §5.2; RFC 7591 §3.2.2); None for success."""
        self.status = status
        """The HTTP status, unless the response is a redirect back to the client."""
        self.cause = cause
        """Who has to act; None for success."""
        self.reason = self.name.lower()
        """The label `reason` of `oauth_errors_total` and the log's `outcome`."""
