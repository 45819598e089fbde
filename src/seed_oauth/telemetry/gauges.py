"""The state of the processes, observed when a reader collects; with several workers, as of their last heartbeat."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from seed_oauth.telemetry.series import Kind, Series, label_sets

State = Mapping[str, float]
"""A value for each value of the gauge's label; the empty string if it has none."""

Combine = Callable[[Iterable[float]], float]


class ConnectionState(StrEnum):
    """Label `state` of `seed_oauth_connections`."""

    ACTIVE = "active"
    """A request is being answered, or an event stream is open."""
    IDLE = "idle"


class CircuitEndpoint(StrEnum):
    """Label `operation` of the series of the circuit breaker: the endpoints that have a circuit."""

    TOKEN = "token"  # noqa: S105 - the name of an endpoint
    REVOCATION = "revocation"
    INTROSPECTION = "introspection"
    USERINFO = "userinfo"


@dataclass(frozen=True, kw_only=True, eq=False)
class Gauge:
    """A gauge with at most one label, and how the values of several processes are combined."""

    series: Series
    combine: Combine = sum

    def combined(self, states: Iterable[Mapping[str, State]]) -> dict[str, float]:
        """The value for each label value, from the states of all processes by the name of their gauge."""
        found: dict[str, list[float]] = {}
        for state in states:
            for label, value in state.get(self.series.name, {}).items():
                found.setdefault(label, []).append(value)
        return {label: self.combine(values) for label, values in found.items()}


CONNECTIONS = Gauge(
    series=Series(
        name="seed_oauth_connections",
        help="Open connections of clients, by whether a request is being answered",
        labels=("state",),
        known=label_sets(state=ConnectionState),
        kind=Kind.GAUGE,
    )
)
EVENT_LOOP_LAG = Gauge(
    series=Series(
        name="seed_oauth_event_loop_lag_seconds",
        help="Longest delay of an event loop within the last minute, of any worker",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
        unit="s",
    ),
    combine=max,
)
IDP_IN_FLIGHT = Gauge(
    series=Series(
        name="seed_oauth_idp_requests_in_flight",
        help="Requests that wait for the identity provider, by operation",
        labels=("operation",),
        known=label_sets(operation=CircuitEndpoint),
        kind=Kind.GAUGE,
    )
)
CIRCUIT_OPEN = Gauge(
    series=Series(
        name="seed_oauth_idp_circuit_open",
        help="Processes that send no requests to the identity provider because it does not respond, by operation",
        labels=("operation",),
        known=label_sets(operation=CircuitEndpoint),
        kind=Kind.GAUGE,
    )
)
MCP_SERVER_CIRCUIT_OPEN = Gauge(
    series=Series(
        name="seed_oauth_mcp_server_circuit_open",
        help="Processes that forward no requests to the MCP server because they cannot connect to it",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
        from_settings=("resource",),
    )
)
LAST_RELOAD_SUCCESSFUL = Gauge(
    series=Series(
        name="seed_oauth_config_last_reload_successful",
        help="Whether the last reload of the settings succeeded, in every worker; 1 before the first",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
    ),
    combine=min,
)
STORE_CHECK = Gauge(
    series=Series(
        name="seed_oauth_store_check_seconds",
        help="Duration of the last check that the store can be read and written, made once a minute, of any worker",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
        unit="s",
    ),
    combine=max,
)
REGISTERED_CLIENTS = Gauge(
    series=Series(
        name="seed_oauth_registered_clients",
        help="Registered clients in the store when it was checked last",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
    ),
    # All workers have the same store.
    combine=max,
)
CLIENT_QUOTA = Gauge(
    series=Series(
        name="seed_oauth_client_quota",
        help="Maximum number of registered clients",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
    ),
    combine=max,
)
MCP_STREAMS = Gauge(
    series=Series(
        name="seed_oauth_mcp_streams",
        help="Open event streams of MCP servers, if SEED_OAUTH_MCP_METRICS is on",
        labels=(),
        known=({},),
        kind=Kind.GAUGE,
    )
)
GAUGES = (
    CONNECTIONS,
    EVENT_LOOP_LAG,
    IDP_IN_FLIGHT,
    CIRCUIT_OPEN,
    MCP_SERVER_CIRCUIT_OPEN,
    LAST_RELOAD_SUCCESSFUL,
    STORE_CHECK,
    REGISTERED_CLIENTS,
    CLIENT_QUOTA,
    MCP_STREAMS,
)
