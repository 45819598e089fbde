"""The instruments of the contract, and the recording of outcomes and of requests to the identity provider."""

from collections import Counter as Counted
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    Check,
    ClientFamily,
    ConsentOutcome,
    GrantType,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
)
from seed_oauth.telemetry.client_documents import DOCUMENT_REQUEST_DURATION, DOCUMENT_REQUESTS, DocumentOutcome
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CLIENT_ERRORS,
    CONSENT_DECISIONS,
    CONTRACT,
    DCR_REGISTRATIONS,
    DECISIONS,
    ENDPOINTS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUEST_DURATION,
    IDP_REQUESTS,
    READY,
    REFUSED_REQUESTS,
    RESOURCE_REQUESTS,
    RESOURCE_RESULTS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
    WORKER_RESTARTS,
    ExchangeResult,
    IdpOutcome,
    Operation,
    Refusal,
    ResourceResult,
    error_attributes,
)
from seed_oauth.telemetry.failed_logins import FailedLogin
from seed_oauth.telemetry.series import Kind, Series
from seed_oauth.telemetry.steps import STEPS, Step

BATCH_SIZE = 256
"""Measurements buffered before they are recorded; larger batches burden the garbage collector."""

IdpRequest = tuple[Operation, IdpOutcome, GrantType | None]
"""The labels of a request to the IdP; one with a grant type is a token exchange."""

_OWN_COUNTERS = {
    AuthorizationOutcome: AUTHORIZATION_REQUESTS,
    # The decision on the consent page determines the result of the authorization request.
    ConsentOutcome: AUTHORIZATION_REQUESTS,
    CallbackOutcome: CALLBACKS,
    RegistrationOutcome: DCR_REGISTRATIONS,
}
"""The series that counts the `result` of an endpoint."""

Item = TypeVar("Item")


def views() -> list[View]:
    """One View per histogram of the contract, with its explicit buckets."""
    return [
        View(instrument_name=series.name, aggregation=ExplicitBucketHistogramAggregation(series.buckets))
        for series in CONTRACT
        if series.kind is Kind.HISTOGRAM
    ]


class Telemetry:
    """Records outcomes and durations. The only code that uses the instruments.

    Measurements are buffered while requests run and recorded in batches, which takes a third of the time. `flush`
    records the buffered ones; every reader calls it first.
    """

    def __init__(
        self,
        meter: Meter,
        context: Callable[[], Context] = Context,
        on_outcome: Callable[[], None] | None = None,
        on_failed_login: Callable[[FailedLogin], None] = lambda _: None,
    ) -> None:
        """Create the instruments.

        Args:
            meter: creates the instruments.
            context: returns the context that links a measurement to its trace.
            on_outcome: called after each outcome, which is then recorded at once instead of in batches.
            on_failed_login: called for each login that failed, before its outcome is recorded.
        """
        counters = {series: _counter(meter, series) for series in CONTRACT if series.kind is Kind.COUNTER}
        histograms = {series: _histogram(meter, series) for series in CONTRACT if series.kind is Kind.HISTOGRAM}
        self._exchanges = counters[TOKEN_EXCHANGES]
        self._exchange_duration = histograms[TOKEN_EXCHANGE_DURATION]
        self._idp_requests = counters[IDP_REQUESTS]
        self._idp_request_duration = histograms[IDP_REQUEST_DURATION]
        self._flow_steps = counters[FLOW_STEPS]
        self._resource_requests = counters[RESOURCE_REQUESTS]
        self._client_errors = counters[CLIENT_ERRORS]
        self._authorization_wait = histograms[AUTHORIZATION_WAIT]
        self._document_requests = counters[DOCUMENT_REQUESTS]
        self._document_request_duration = histograms[DOCUMENT_REQUEST_DURATION]
        self._refused = counters[REFUSED_REQUESTS]
        self._restarts = counters[WORKER_RESTARTS]
        self._ready = meter.create_gauge(READY.name, unit=READY.unit, description=READY.help)
        self._of_outcome = {outcome: _increments(outcome, counters) for outcomes in ENDPOINTS for outcome in outcomes}
        self._context = context
        self._on_outcome = on_outcome
        self.note_failed_login = on_failed_login
        # Deques, because push readers collect in their own thread.
        self._outcomes: deque[tuple[Outcome, ClientFamily, bool, str]] = deque()
        self._waits: deque[tuple[float, Context]] = deque()
        self._durations: defaultdict[IdpRequest, deque[tuple[float, Context]]] = defaultdict(deque)

    def record(
        self,
        outcome: Outcome,
        client_family: ClientFamily = ClientFamily.OTHER,
        waited: float | None = None,
        *,
        is_step: bool = True,
        resource: str = "",
    ) -> None:
        """Count the outcome of a request: in the counter of its endpoint, as an error, and as steps of the flow.

        `waited` is the time in seconds that its user spent at the identity provider. `is_step` is false if it was not
        a step of a user. `resource` is one of those in `expect`; empty if there is only one.
        """
        self._outcomes.append((outcome, client_family, is_step, resource))
        if waited is not None:
            self._waits.append((waited, self._context()))
        if self._on_outcome is not None:
            self.flush()
            self._on_outcome()
        elif len(self._outcomes) >= BATCH_SIZE:
            self.flush()

    def expect(self, resources: Iterable[str]) -> None:
        """Begin to count the requests to each of these resources at 0."""
        for resource in resources:
            for result in ResourceResult:
                self._resource_requests.add(0, _resource_attributes(result, resource))

    def record_exchange(self, grant_type: GrantType, outcome: IdpOutcome, seconds: float) -> None:
        """Count one request to the IdP's token endpoint and its duration, as an exchange and as a request."""
        self._durations[Operation.TOKEN, outcome, grant_type].append((seconds, self._context()))

    def record_idp_request(self, operation: Operation, outcome: IdpOutcome, seconds: float) -> None:
        """Count one request to the IdP that is not a token exchange, and its duration."""
        self._durations[operation, outcome, None].append((seconds, self._context()))

    def record_document_request(self, outcome: DocumentOutcome, seconds: float) -> None:
        """Count one request for a document that a client publishes, and its duration."""
        self._document_requests.add(1, {"outcome": outcome.value})
        self._document_request_duration.record(seconds, {"outcome": outcome.value}, self._context())

    def record_step(self, step: Step, client_family: ClientFamily, times: int = 1) -> None:
        """Count a step that is not the outcome of a request to an endpoint."""
        self._flow_steps.add(times, {"step": step.value, "client_family": client_family.value})
        if self._on_outcome is not None:
            self._on_outcome()

    def record_ready(self, check: Check, passed: bool) -> None:
        """Record the outcome of a check of the readiness."""
        self._ready.set(int(passed), {"check": check.value})

    def record_refusal(self, reason: Refusal) -> None:
        """Count a request that no endpoint has seen."""
        self._refused.add(1, {"reason": reason.value})

    def record_restart(self) -> None:
        """Count a worker that ended unasked."""
        self._restarts.add(1, {})

    def flush(self) -> None:
        """Record the buffered measurements in the instruments."""
        for (outcome, family, is_step, resource), times in Counted(taken_from(self._outcomes)).items():
            for counter, attributes in self._of_outcome[outcome]:
                counter.add(times, attributes)
            if outcome in RESOURCE_RESULTS:
                self._resource_requests.add(times, _resource_attributes(RESOURCE_RESULTS[outcome], resource))
            # Every login begins with a request without a token.
            if outcome.cause is not None and outcome is not ResourceOutcome.NO_TOKEN:
                self._client_errors.add(times, {"client_family": family.value, "endpoint": ENDPOINTS[type(outcome)]})
            for step in STEPS.get(outcome, ()) if is_step else ():
                self._flow_steps.add(times, {"step": step.value, "client_family": family.value})
        for seconds, context in taken_from(self._waits):
            self._authorization_wait.record(seconds, {}, context)
        for request, durations in list(self._durations.items()):
            if durations:
                self._flush_requests(*request, durations)

    def _flush_requests(
        self,
        operation: Operation,
        outcome: IdpOutcome,
        grant_type: GrantType | None,
        durations: deque[tuple[float, Context]],
    ) -> None:
        # Fastest in the SDK: one instrument after the other, with one label set each.
        labels = {"operation": operation.value, "outcome": outcome.value}
        taken = list(taken_from(durations))
        for seconds, context in taken:
            self._idp_request_duration.record(seconds, labels, context)
        self._idp_requests.add(len(taken), labels)
        if grant_type is None:
            return
        labels = {"grant_type": grant_type.value}
        for seconds, context in taken:
            self._exchange_duration.record(seconds, labels, context)
        result = ExchangeResult.SUCCESS if outcome is IdpOutcome.OK else ExchangeResult.FAILURE
        self._exchanges.add(len(taken), {**labels, "result": result.value})


def taken_from(buffer: deque[Item]) -> Iterator[Item]:
    """Remove and yield every item; safe when two threads do so at the same time."""
    while buffer:
        try:
            yield buffer.popleft()
        except IndexError:
            return


def _increments(outcome: Outcome, counters: Mapping[Series, Counter]) -> list[tuple[Counter, Mapping[str, str]]]:
    increments: list[tuple[Counter, Mapping[str, str]]] = []
    if outcome.result is not None:
        increments.append((counters[_OWN_COUNTERS[type(outcome)]], {"result": outcome.result}))
    if outcome.cause is not None:
        increments.append((counters[ERRORS], error_attributes(outcome)))
    if outcome in DECISIONS:
        increments.append((counters[CONSENT_DECISIONS], {"decision": DECISIONS[outcome].value}))
    return increments


def _resource_attributes(result: ResourceResult, resource: str) -> Mapping[str, str]:
    return {"result": result.value, "resource": resource} if resource else {"result": result.value}


def _counter(meter: Meter, series: Series) -> Counter:
    counter = meter.create_counter(series.name, unit=series.unit, description=series.help)
    for attributes in series.known:
        # increase() misses the first failure of a series that does not start at 0.
        counter.add(0, attributes)
    return counter


def _histogram(meter: Meter, series: Series) -> Histogram:
    return meter.create_histogram(series.name, unit=series.unit, description=series.help)
