"""The boundary around every endpoint: each request ends as one recorded outcome and one response."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from random import getrandbits
from time import perf_counter, time

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from seed_oauth.clients.family import family_of_user_agent
from seed_oauth.endpoints.metadata import Document
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer
from seed_oauth.http.cors import DOCUMENT_CORS
from seed_oauth.http.early_response import early_response
from seed_oauth.http.error_response import error_response
from seed_oauth.http.parameters import MAXIMUM_BODY, BodyTooLargeError, MalformedRequestError
from seed_oauth.http.paths import RESOURCE_METADATA
from seed_oauth.http.scope_keys import RESOURCE
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.outcomes import AuthorizationOutcome, Cause, ClientFamily, EndpointOutcomes
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.rate_limits import RateLimit
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.audit import AuditTrail
from seed_oauth.telemetry.contract import ENDPOINTS
from seed_oauth.telemetry.failed_logins import LOGIN, FailedLogin
from seed_oauth.telemetry.steps import UNCOUNTED_METHODS, Step

Endpoint = Callable[[Request], Awaitable[Answer]]

_OUR_TROUBLE = frozenset({Cause.IDP, Cause.SERVER})

_NO_RESPONSE = Response(status_code=503)  # of a cancelled request: nobody sees it


class Boundary:
    """An ASGI app that runs one endpoint.

    One request, one outcome: when the endpoint returns, when it raises an expected or an unexpected exception, and
    when the client disconnects before the response. The row is recorded before the response is sent, so that a
    request that was answered is in the next scrape.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        outcomes: EndpointOutcomes,
        methods: Collection[str],
        *,
        telemetry: Telemetry,
        issuer: str,
        limit: RateLimit | None = None,
        audit: AuditTrail | None = None,
        resource: str = "",
    ) -> None:
        """`resource` is the name of the protected resource in the metrics; empty if there is only one."""
        self._resource = resource
        self._endpoint = endpoint
        self._outcomes = outcomes
        self._methods = methods
        self._telemetry = telemetry
        self._issuer = issuer
        self._limit = limit
        self._audit = audit
        self._log = structlog.get_logger("seed_oauth").bind(endpoint=ENDPOINTS[outcomes])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = perf_counter()
        request = Request(scope, receive)
        correlation_id = f"{getrandbits(64):016x}"  # to find a log line; not a secret
        log_fields.begin(correlation_id)
        error: OAuthError | None = None
        try:
            answer = await self._run(request)
        except OAuthError as raised:
            error = raised
            response = error_response(error, request, issuer=self._issuer, correlation_id=correlation_id)
            answer = Answer(error.outcome, response, _family_of(error, request))
        except asyncio.CancelledError:
            # The server cancelled the request; it is still counted, and stays cancelled.
            self._record(request, Answer(self._outcomes.CANCELLED, _NO_RESPONSE), correlation_id, started)
            raise
        if request.method not in UNCOUNTED_METHODS:
            self._record(request, answer, correlation_id, started, error)
        answer.response.raw_headers.append((b"x-correlation-id", correlation_id.encode()))
        if answer.outcome is self._outcomes.BODY_TOO_LARGE:
            send = early_response(receive, send)
        await answer.response(scope, receive, send)

    async def _run(self, request: Request) -> Answer:
        """The endpoint's answer; every exception becomes an `OAuthError`."""
        outcomes = self._outcomes
        if request.method not in self._methods:
            allowed = {"Allow": ", ".join(self._methods)}
            raise OAuthError(outcomes.METHOD_NOT_ALLOWED, f"use {' or '.join(self._methods)}", allowed)
        try:
            if self._limit is not None:
                await self._limit.check(request)
            return await self._endpoint(request)
        except MalformedRequestError as malformed:
            raise OAuthError(outcomes.MALFORMED_REQUEST, str(malformed)) from malformed
        except BodyTooLargeError as too_large:
            raise OAuthError(
                outcomes.BODY_TOO_LARGE, f"send at most {MAXIMUM_BODY} bytes", {"Connection": "close"}
            ) from too_large
        except ClientDisconnect as gone:
            raise OAuthError(outcomes.CANCELLED, "the client disconnected") from gone
        except OAuthError:
            raise
        except Exception as unexpected:
            self._log.error("unexpected", exc_info=unexpected)
            raise OAuthError(
                outcomes.UNEXPECTED, "this server failed, which is not the fault of the request: try again"
            ) from unexpected

    def _record(
        self, request: Request, answer: Answer, correlation_id: str, started: float, error: OAuthError | None = None
    ) -> None:
        outcome = answer.outcome
        is_step = answer.is_step and (self._outcomes is not AuthorizationOutcome or not _is_by_program(request))
        if error is not None:
            self._note_failed_login(error, correlation_id)
        resource = request.scope.get(RESOURCE, self._resource)
        self._telemetry.record(outcome, answer.client_family, answer.waited, is_step=is_step, resource=resource)
        if self._audit is not None:
            self._audit.record(outcome, request.scope)
        line: dict[str, object] = {
            "outcome": outcome.reason,
            "correlation_id": correlation_id,
            "client_family": answer.client_family,
        }
        if error is not None:
            line |= {"cause": error.outcome.cause, "detail": error.description, **error.log_fields}
            if isinstance(error.__cause__, IdentityProviderError):
                line |= error.__cause__.log_fields
        log = self._log.warning if outcome.cause in _OUR_TROUBLE else self._log.info
        log("request", **line, duration_ms=round((perf_counter() - started) * 1000, 2))

    def _note_failed_login(self, error: OAuthError, correlation_id: str) -> None:
        outcome = error.outcome
        if isinstance(outcome, LOGIN) and outcome.cause is not None:
            endpoint, flow_id = ENDPOINTS[self._outcomes], log_fields.noted("flow_id") or ""
            family = error.client_family.value
            self._telemetry.note_failed_login(
                FailedLogin(time(), endpoint, outcome.reason, outcome.cause.value, family, correlation_id, flow_id)
            )


def document_route(path: str, document: Document, telemetry: Telemetry) -> Route:
    """Serves a metadata document. A client that reads it has taken a step, and there is no other outcome."""
    step = Step.DISCOVERED_RESOURCE if path.startswith(RESOURCE_METADATA) else Step.DISCOVERED_SERVER

    async def read(request: Request) -> Response:
        if request.method not in UNCOUNTED_METHODS:
            telemetry.record_step(step, family_of_user_agent(request.headers.get("user-agent")))
        return await document(request)

    return Route(path, read, methods=["GET", "OPTIONS"], middleware=[DOCUMENT_CORS])


def _family_of(error: OAuthError, request: Request) -> ClientFamily:
    """That of the client, or what the User-Agent suggests where no client was identified."""
    if error.client_family is not ClientFamily.OTHER:
        return error.client_family
    if noted := log_fields.noted("client_family"):
        return ClientFamily(noted)
    return family_of_user_agent(request.headers.get("user-agent"))


def _is_by_program(request: Request) -> bool:
    """Whether a program looks at what its user's browser will navigate to next, as FastMCP does before each login."""
    headers = dict(request.scope["headers"])  # two look-ups by Starlette decode all of them twice
    return headers.get(b"accept") == b"*/*" and b"sec-fetch-mode" not in headers
