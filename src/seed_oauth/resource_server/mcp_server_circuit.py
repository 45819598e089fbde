"""The circuit of an MCP server: while no connection to it can be made, clients do not wait for one."""

from seed_oauth.http_client.circuit import Circuit
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import OAuthError

FAILURES = 3
"""Requests in a row without a connection, after which no more are sent for a while."""

PAUSE = 1.0
"""Seconds between two requests that are sent to see whether the server is back: it is nearby, and a restart takes
seconds."""


def circuit_of(mcp_server: str) -> Circuit:
    """The circuit of the server at this URL. A slow response or an error of the server does not open it."""
    return Circuit(
        "MCP server",
        failures=FAILURES,
        pause=PAUSE,
        is_no_response=_is_no_connection,
        refusal=_refusal,
        where=mcp_server,
    )


def _is_no_connection(error: Exception) -> bool:
    return isinstance(error, OSError)


def _refusal(seconds: int) -> OAuthError:
    return OAuthError(
        ResourceOutcome.MCP_SERVER_UNREACHABLE,
        "the MCP server cannot be reached: try again",
        {"Retry-After": str(seconds)},
    )
