"""The pipelines: instruments → Views → MeterProvider → readers, and the spans."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import quote

import httpx
import structlog
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID
from opentelemetry.trace import TracerProvider
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.middleware import Middleware

from seed_oauth.telemetry.client_instrumentation import InstrumentedTransport
from seed_oauth.telemetry.client_spans import ClientSpans
from seed_oauth.telemetry.contract import BUILD_INFO, WORKER_UP
from seed_oauth.telemetry.exemplars import ExemplarReader
from seed_oauth.telemetry.failed_logins import FailedLogin, FailedLogins
from seed_oauth.telemetry.forwarding import ForwardingMeterProvider, Replay
from seed_oauth.telemetry.gauges import GAUGES, MCP_STREAMS, Gauge, State
from seed_oauth.telemetry.instruments import Telemetry, views
from seed_oauth.telemetry.mcp_operations import VIEW, McpOperations
from seed_oauth.telemetry.mcp_spans import McpSpans
from seed_oauth.telemetry.push import (
    VERSION,
    exemplar_filter,
    is_disabled,
    own_resource,
    push_readers,
    pushing_tracer_provider,
    shut_down,
)
from seed_oauth.telemetry.server_spans import ServerSpans
from seed_oauth.telemetry.tracing import context_source, is_tracing

_SCOPE = "seed_oauth"


class Recording:
    """The part of a pipeline that an app uses: recording, independent of where the values are kept."""

    def __init__(
        self,
        meter_provider: MeterProvider,
        tracer_provider: TracerProvider,
        on_outcome: Callable[[], None] | None = None,
        *,
        on_failed_login: Callable[[FailedLogin], None],
    ) -> None:
        self._meter_provider = meter_provider
        self._tracer_provider = tracer_provider
        self._meter = meter_provider.get_meter(_SCOPE, VERSION)
        self._on_outcome = on_outcome
        self._context = context_source(tracer_provider)
        self.telemetry = Telemetry(self._meter, self._context, on_outcome, on_failed_login)
        self._mcp_operations: McpOperations | None = None
        self._observed: dict[Gauge, list[Callable[[], State]]] = {}

    def observe(self, gauge: Gauge, state: Callable[[], State]) -> Callable[[], None]:
        """Call `state` for the value of this gauge in this process whenever one is needed, from any thread.

        The result ends that.
        """
        states = self._observed.setdefault(gauge, [])
        states.append(state)
        return partial(states.remove, state)

    def states(self) -> dict[str, State]:
        """The values of the gauges in this process, by name."""
        return {
            gauge.series.name: gauge.combined({gauge.series.name: state()} for state in [*states])
            for gauge, states in self._observed.items()
        }

    def instrument(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The transport with spans and `http_client_request_duration_seconds` around each request."""
        return InstrumentedTransport(transport, self._tracer_provider, self._meter_provider)

    def mcp_operations(self) -> McpOperations:
        """Records the operations of MCP servers: one for all of them, which outlives an app that is replaced."""
        if self._mcp_operations is None:
            self._mcp_operations = operations = McpOperations(self._meter, self._context, self._on_outcome)
            self.observe(MCP_STREAMS, lambda: {"": operations.open_streams})
        return self._mcp_operations

    def mcp_spans(self) -> McpSpans | None:
        """What makes the spans of the operations of MCP servers; None without tracing."""
        return McpSpans(self._tracer_provider) if is_tracing(self._tracer_provider) else None

    def flush(self) -> None:
        """Record the buffered measurements in the instruments."""
        self.telemetry.flush()
        if self._mcp_operations is not None:
            self._mcp_operations.flush()

    def client_spans(self, url: str) -> ClientSpans | None:
        """What makes the spans of the requests to a server; None without tracing."""
        return ClientSpans(self._tracer_provider, url) if is_tracing(self._tracer_provider) else None

    def is_partial(self) -> bool:
        """Whether a scrape covers only some of the processes."""
        return False

    def middleware(self) -> list[Middleware]:
        """The middleware that creates spans for incoming requests; empty without tracing."""
        if not is_tracing(self._tracer_provider):
            return []
        return [Middleware(ServerSpans, tracer_provider=self._tracer_provider)]


class Pipeline(Recording):
    """The pipeline from the instruments to a scrape or a push, with its own registry: nothing is global."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        observe_workers: Callable[[], Iterable[tuple[str, bool]]] = lambda: [("0", True)],
    ) -> None:
        """`observe_workers` is called before each collection: it records pending data and returns (worker, alive).

        Raises:
            SettingsError: an environment variable of OpenTelemetry is invalid.
        """
        if is_disabled():
            structlog.get_logger("seed_oauth").warning(
                "OTEL_SDK_DISABLED is set: no metrics are recorded, and the scrape is empty"
            )
        self.registry = CollectorRegistry()
        # prometheus_client has the standard process metrics, OpenTelemetry does not.
        ProcessCollector(registry=self.registry)
        self._observe_other_workers = observe_workers
        resource = own_resource()
        self._instance_id = str(resource.attributes[SERVICE_INSTANCE_ID])
        tracer_provider = tracer_provider or pushing_tracer_provider(resource)
        pushing = push_readers()
        self._pushes = bool(pushing)
        self._sdk_meter_provider = SdkMeterProvider(
            metric_readers=[ExemplarReader(self.registry), *pushing],
            resource=resource,
            views=[*views(), VIEW],
            exemplar_filter=exemplar_filter(tracing=is_tracing(tracer_provider)),
            shutdown_on_exit=False,
        )
        self.failed_logins = FailedLogins()
        super().__init__(self._sdk_meter_provider, tracer_provider, on_failed_login=self.failed_logins.add)
        self._meter.create_observable_gauge(
            WORKER_UP.name, callbacks=[self._observe_workers], unit=WORKER_UP.unit, description=WORKER_UP.help
        )
        self._meter.create_observable_gauge(
            BUILD_INFO.name,
            callbacks=[lambda _: [Observation(1, {"version": VERSION})]],
            unit=BUILD_INFO.unit,
            description=BUILD_INFO.help,
        )
        self._replays: list[Replay] = []
        for gauge in GAUGES:
            series = gauge.series
            self._meter.create_observable_gauge(
                series.name, callbacks=[partial(self._observe, gauge)], unit=series.unit, description=series.help
            )

    def worker_environment(self) -> dict[str, str]:
        """The variables with which the spans of a worker are those of this instance, as its metrics are."""
        attributes = [
            os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""),
            f"{SERVICE_INSTANCE_ID}={quote(self._instance_id)}",
        ]
        return {"OTEL_RESOURCE_ATTRIBUTES": ",".join(filter(None, attributes))}

    def replay(self, pipe: int) -> Replay:
        """Records here what the `ForwardingPipeline` of a worker writes to the other end of `pipe`."""
        # Of workers that have ended only the counters remain.
        self._replays = [replay for replay in self._replays if not replay.closed]
        replay = Replay(pipe, self._sdk_meter_provider, self.failed_logins.add)
        self._replays.append(replay)
        return replay

    def is_partial(self) -> bool:
        """Whether a scrape covers one of several processes, and nothing is pushed."""
        # The worker processes of `uvicorn --workers` and of gunicorn.
        several = multiprocessing.parent_process() is not None or "gunicorn" in os.environ.get("SERVER_SOFTWARE", "")
        return several and not self._pushes

    def shutdown(self) -> None:
        """Push the latest values and stop the readers.

        `force_flush` would also reach the pull reader, whose next scrape then has every sample twice.
        """
        shut_down(self._sdk_meter_provider, self._tracer_provider)

    def _observe_workers(self, _: CallbackOptions) -> list[Observation]:
        # Every reader collects the observable instruments first, so the others are brought up to date here.
        self.flush()
        return [Observation(int(up), {"worker": worker}) for worker, up in self._observe_other_workers()]

    def _observe(self, gauge: Gauge, _: CallbackOptions) -> list[Observation]:
        states = [self.states(), *(replay.states for replay in self._replays if not replay.closed)]
        labels = (*gauge.series.labels, *gauge.series.from_settings)
        return [
            Observation(value, dict(zip(labels, [label], strict=True)) if label else {})
            for label, value in gauge.combined(states).items()
        ]


class ForwardingPipeline(Recording):
    """The pipeline of a worker process: it sends measurements to the supervisor and keeps none."""

    def __init__(self, pipe: int, tracer_provider: TracerProvider | None = None) -> None:
        """`pipe` is the file descriptor of the write end of a non-blocking pipe."""
        self._forwarding = ForwardingMeterProvider(pipe)
        super().__init__(
            self._forwarding,
            tracer_provider or pushing_tracer_provider(own_resource()),
            # Sent at once, so that an answered request is counted even if this process is killed next.
            on_outcome=self._forwarding.send,
            on_failed_login=self._forwarding.tell,
        )

    def give_sign_of_life(self) -> bool:
        """Send a heartbeat to the supervisor; return whether the supervisor is running."""
        self.flush()  # measurements of background work, which has no outcome
        self._forwarding.send(self.states())
        return self._forwarding.supervised

    def shutdown(self) -> None:
        """Push the last spans and send the last measurements to the supervisor."""
        shut_down(self._tracer_provider)
        self._forwarding.send()
