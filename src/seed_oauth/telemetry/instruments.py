"""The instruments of the contract, and how outcomes, exchanges and requests to the identity provider are recorded."""

from collections import Counter as Counted
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    ClientFamily,
    ConsentOutcome,
    GrantType,
    Outcome,
    RegistrationOutcome,
)
from seed_oauth.telemetry.contract import (
    AUTHORIZATION_REQUESTS,
    AUTHORIZATION_WAIT,
    CALLBACKS,
    CONSENT_DECISIONS,
    CONTRACT,
    DCR_REGISTRATIONS,
    DECISIONS,
    ENDPOINTS,
    ERRORS,
    FLOW_STEPS,
    IDP_REQUEST_DURATION,
    IDP_REQUESTS,
    STEPS,
    TOKEN_EXCHANGE_DURATION,
    TOKEN_EXCHANGES,
    ExchangeResult,
    IdpOutcome,
    Kind,
    Operation,
    Series,
    error_attributes,
)

_MOST_NOTED = 256  # outcomes that wait to be recorded; more of them are work for the garbage collector

IdpRequest = tuple[Operation, IdpOutcome, GrantType | None]
"""What is told of a request to the IdP; one with a grant type is an exchange."""

_OWN_COUNTERS = {
    AuthorizationOutcome: AUTHORIZATION_REQUESTS,
    # The answer to the question for consent decides what becomes of the authorization request.
    ConsentOutcome: AUTHORIZATION_REQUESTS,
    CallbackOutcome: CALLBACKS,
    RegistrationOutcome: DCR_REGISTRATIONS,
}
"""The series that the `result` of an endpoint's rows is counted in."""

Noted = TypeVar("Noted")


def views() -> list[View]:
    """One View for each histogram of the contract, with its explicit buckets."""
    return [
        # Minimum and maximum since the start say nothing, and Prometheus does not have them.
        View(instrument_name=series.name, aggregation=ExplicitBucketHistogramAggregation(series.buckets, False))
        for series in CONTRACT
        if series.kind is Kind.HISTOGRAM
    ]


class Telemetry:
    """Records what happened. The only place where an instrument of ours is touched.

    A measurement is noted while a request runs and recorded in the instruments a little later, many at a
    time: that costs a third. `flush` records what is noted, and is called before anybody looks.
    """

    def __init__(
        self,
        meter: Meter,
        context: Callable[[], Context] = Context,
        on_outcome: Callable[[], None] | None = None,
    ) -> None:
        """Make the instruments.

        Args:
            meter: whose instruments to record in.
            context: gives what links a measurement to its trace.
            on_outcome: if given, it is called after each outcome was recorded; then nothing is left for later.
        """
        counters = {series: _counter(meter, series) for series in CONTRACT if series.kind is Kind.COUNTER}
        histograms = {series: _histogram(meter, series) for series in CONTRACT if series.kind is Kind.HISTOGRAM}
        self._exchanges = counters[TOKEN_EXCHANGES]
        self._exchange_duration = histograms[TOKEN_EXCHANGE_DURATION]
        self._idp_requests = counters[IDP_REQUESTS]
        self._idp_request_duration = histograms[IDP_REQUEST_DURATION]
        self._flow_steps = counters[FLOW_STEPS]
        self._authorization_wait = histograms[AUTHORIZATION_WAIT]
        self._of_outcome = {outcome: _increments(outcome, counters) for outcomes in ENDPOINTS for outcome in outcomes}
        self._context = context
        self._on_outcome = on_outcome
        # Deques, because readers that push collect in a thread of their own.
        self._outcomes: deque[tuple[Outcome, ClientFamily]] = deque()
        self._waits: deque[tuple[float, Context]] = deque()
        self._durations: defaultdict[IdpRequest, deque[tuple[float, Context]]] = defaultdict(deque)

    def record(
        self, outcome: Outcome, client_family: ClientFamily = ClientFamily.OTHER, waited: float | None = None
    ) -> None:
        """Count how a request ended: in its endpoint's counter, as an error if it is one, and as steps taken.

        `waited` is how many seconds its user had been away at the identity provider.
        """
        self._outcomes.append((outcome, client_family))
        if waited is not None:
            self._waits.append((waited, self._context()))
        if self._on_outcome is not None:
            self.flush()
            self._on_outcome()
        elif len(self._outcomes) >= _MOST_NOTED:
            self.flush()

    def record_exchange(self, grant_type: GrantType, outcome: IdpOutcome, seconds: float) -> None:
        """Count and time one request to the IdP's token endpoint, as an exchange and as a request: so both agree."""
        self._durations[Operation.TOKEN, outcome, grant_type].append((seconds, self._context()))

    def record_idp_request(self, operation: Operation, outcome: IdpOutcome, seconds: float) -> None:
        """Count and time one request to the IdP that is no exchange."""
        self._durations[operation, outcome, None].append((seconds, self._context()))

    def flush(self) -> None:
        """Record in the instruments what was noted until now."""
        for (outcome, family), times in Counted(_taken_from(self._outcomes)).items():
            for counter, attributes in self._of_outcome[outcome]:
                counter.add(times, attributes)
            for step in STEPS.get(outcome, ()):
                self._flow_steps.add(times, {"step": step.value, "client_family": family.value})
        for seconds, context in _taken_from(self._waits):
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
        # One after the other and each label set made once: so the SDK costs least.
        labels = {"operation": operation.value, "outcome": outcome.value}
        taken = list(_taken_from(durations))
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


def _taken_from(noted: deque[Noted]) -> Iterator[Noted]:
    """What is noted, each once, also when two threads take at the same time."""
    while noted:
        try:
            yield noted.popleft()
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


def _counter(meter: Meter, series: Series) -> Counter:
    counter = meter.create_counter(series.name, unit=series.unit, description=series.help)
    for attributes in series.known:
        # A series that appears with its first failure hides it: increase() needs the 0 before.
        counter.add(0, attributes)
    return counter


def _histogram(meter: Meter, series: Series) -> Histogram:
    return meter.create_histogram(series.name, unit=series.unit, description=series.help)
