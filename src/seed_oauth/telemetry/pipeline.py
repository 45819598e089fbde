"""The pipelines: instruments → Views → MeterProvider → readers, and spans beside them."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from importlib.metadata import version

import httpx
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.trace import TracerProvider
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.middleware import Middleware

from seed_oauth.telemetry.client_instrumentation import InstrumentedTransport
from seed_oauth.telemetry.contract import WORKER_UP
from seed_oauth.telemetry.forwarding import ForwardingMeterProvider, Replay
from seed_oauth.telemetry.instruments import Telemetry, views
from seed_oauth.telemetry.push import push_readers, pushing_tracer_provider, shut_down
from seed_oauth.telemetry.tracing import ServerSpans, context_source, is_tracing

_SCOPE = "seed_oauth"
_VERSION = version("seed-oauth")


class Recording:
    """What an app needs of a pipeline: to record what happens in it, wherever the values are kept."""

    def __init__(
        self,
        meter_provider: MeterProvider,
        tracer_provider: TracerProvider,
        on_outcome: Callable[[], None] | None = None,
    ) -> None:
        self._meter_provider = meter_provider
        self._tracer_provider = tracer_provider
        self._meter = meter_provider.get_meter(_SCOPE, _VERSION)
        self.telemetry = Telemetry(self._meter, context_source(tracer_provider), on_outcome)

    def instrument(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The transport with spans and `http_client_request_duration_seconds` around each request."""
        return InstrumentedTransport(transport, self._tracer_provider, self._meter_provider)

    def is_partial(self) -> bool:
        """Whether a scrape tells of a part of the processes only."""
        return False

    def middleware(self) -> list[Middleware]:
        """What puts spans around the requests that come in; nothing where spans go nowhere."""
        if not is_tracing(self._tracer_provider):
            return []
        return [Middleware(ServerSpans, tracer_provider=self._tracer_provider)]


class Pipeline(Recording):
    """Everything between an instrument and a scrape or a push, on a registry of its own: nothing here is global."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        observe_workers: Callable[[], Iterable[tuple[str, bool]]] = lambda: [("0", True)],
    ) -> None:
        """`observe_workers` has everything recorded and tells which workers are alive, before each look.

        Raises:
            SettingsError: OpenTelemetry's environment variables ask for what cannot be done.
        """
        self.registry = CollectorRegistry()
        # Process metrics are the scraper's view of this process, so they come from its own library.
        ProcessCollector(registry=self.registry)
        self._observe_other_workers = observe_workers
        resource = _resource()
        tracer_provider = tracer_provider or pushing_tracer_provider(resource)
        pushing = push_readers()
        self._pushes = bool(pushing)
        self._sdk_meter_provider = SdkMeterProvider(
            # Without scope labels the series have exactly the labels of the contract.
            metric_readers=[PrometheusMetricReader(scope_info_enabled=False, registry=self.registry), *pushing],
            resource=resource,
            views=views(),
            # An exemplar leads to a trace; without traces nobody needs to look for one.
            exemplar_filter=TraceBasedExemplarFilter() if is_tracing(tracer_provider) else AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        super().__init__(self._sdk_meter_provider, tracer_provider)
        self._meter.create_observable_gauge(
            WORKER_UP.name, callbacks=[self._observe_workers], unit=WORKER_UP.unit, description=WORKER_UP.help
        )

    def replay(self, pipe: int) -> Replay:
        """What a worker's `ForwardingPipeline` writes to the other end of `pipe`, recorded here."""
        return Replay(pipe, self._sdk_meter_provider)

    def is_partial(self) -> bool:
        """Whether a scrape of this process tells of a part only: it is one of several, and nothing is pushed."""
        # As uvicorn --workers starts them, and as gunicorn does.
        several = multiprocessing.parent_process() is not None or "gunicorn" in os.environ.get("SERVER_SOFTWARE", "")
        return several and not self._pushes

    def shutdown(self) -> None:
        """Push what is new, and stop the readers.

        Never `force_flush`: it reaches the pull reader, too, whose next scrape shows every sample twice.
        """
        shut_down(self._sdk_meter_provider, self._tracer_provider)

    def _observe_workers(self, _: CallbackOptions) -> list[Observation]:
        # Every reader asks the observable instruments first, so here is where the others catch up.
        self.telemetry.flush()
        return [Observation(int(up), {"worker": worker}) for worker, up in self._observe_other_workers()]


class ForwardingPipeline(Recording):
    """The pipeline of a worker process: it keeps no value, what it records is written to the supervisor."""

    def __init__(self, pipe: int, tracer_provider: TracerProvider | None = None) -> None:
        """`pipe` is the file descriptor of a non-blocking pipe's writing end."""
        self._forwarding = ForwardingMeterProvider(pipe)
        super().__init__(
            self._forwarding,
            tracer_provider or pushing_tracer_provider(_resource()),
            # At once, so that a client that has its answer is counted even if this process is killed next.
            on_outcome=self._forwarding.send,
        )

    def give_sign_of_life(self) -> bool:
        """Tell the supervisor that this process is running, and whether there is one."""
        self.telemetry.flush()  # what was recorded in the background, without an outcome
        self._forwarding.send()
        return self._forwarding.supervised

    def shutdown(self) -> None:
        """Push the last spans, and write what is left to the supervisor."""
        shut_down(self._tracer_provider)
        self._forwarding.send()


def _resource() -> Resource:
    """Who records; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word on the name."""
    named = Resource.create()
    ours = {SERVICE_VERSION: _VERSION}
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        ours[SERVICE_NAME] = "seed-oauth"
    return named.merge(Resource(ours))
