"""The requests for documents that clients publish: their metadata, and their keys."""

from enum import StrEnum

from seed_oauth.telemetry.series import Kind, Series, label_sets


class DocumentOutcome(StrEnum):
    """Label `outcome` of the `oauth_client_document_*` series: the outcome of a request for a document."""

    OK = "ok"
    """A document; whether it breaks a rule is in `oauth_errors_total`."""
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    """No response: connection refused or broken, name not resolved, or TLS failure."""
    INVALID_RESPONSE = "invalid_response"
    """An unusable response: too large, or a redirect."""
    FORBIDDEN = "forbidden"
    """Nothing was sent: the address is not public, or there is none."""
    CANCELLED = "cancelled"


DOCUMENT_REQUESTS = Series(
    name="oauth_client_document_requests_total",
    help="Requests for documents that clients publish, by outcome",
    labels=("outcome",),
    known=label_sets(outcome=DocumentOutcome),
)
DOCUMENT_REQUEST_DURATION = Series(
    name="oauth_client_document_request_duration_seconds",
    help="Duration of requests for documents that clients publish, by outcome",
    labels=("outcome",),
    known=label_sets(outcome=DocumentOutcome),
    kind=Kind.HISTOGRAM,
    unit="s",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
