"""Spans and `http_client_request_duration_seconds` around the requests to the identity provider."""

import os
from time import perf_counter

import httpx
from opentelemetry.context import Context
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.trace import TracerProvider

_DURATION = "http.client.request.duration"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)  # as they are there

_NO_TRACE = Context()


class MeasuredTransport(httpx.AsyncBaseTransport):
    """A transport that records the duration of each request as opentelemetry-instrumentation-httpx does.

    For when there is no tracing: the instrumentation then records no more than this, but spends a sixth of the CPU of a
    whole token request on the attributes of spans that nobody sees. As there, a request without a response is not
    recorded.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, meter: Meter) -> None:
        self._transport = transport
        self._duration = meter.create_histogram(
            _DURATION, "s", "Duration of HTTP client requests.", explicit_bucket_boundaries_advisory=_BUCKETS
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises what the inner transport raises."""
        started = perf_counter()
        response = await self._transport.handle_async_request(request)
        seconds = perf_counter() - started
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "server.address": request.url.host,
            "http.response.status_code": response.status_code,
            "network.protocol.version": response.http_version.removeprefix("HTTP/"),
        }
        if request.url.port:
            attributes["server.port"] = request.url.port
        if response.is_error:
            attributes["error.type"] = str(response.status_code)
        self._duration.record(seconds, attributes, _NO_TRACE)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._transport.aclose()


class InstrumentedTransport(httpx.AsyncBaseTransport):
    """A transport with opentelemetry-instrumentation-httpx around it.

    The instrumentation writes the message and stack of an exception into the span, and a message can contain
    secrets. So exceptions pass through it in a wrapper that has only their type.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, tracer_provider: TracerProvider, meter_provider: MeterProvider
    ) -> None:
        # Selects the stable semantic conventions, which measure in seconds instead of milliseconds.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        self._transport = AsyncOpenTelemetryTransport(
            _Withholding(transport), tracer_provider=tracer_provider, meter_provider=meter_provider
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises what the inner transport raises."""
        try:
            # Passing method and URL is faster: given a request, it parses the URL again and copies every header.
            return await self._transport.handle_async_request(
                request.method.encode(), request.url, headers=None, request=request
            )
        except _WithheldError as withheld:
            raise withheld.error from None

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._transport.aclose()


class _Withholding(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(  # type: ignore[override]  # the arguments that the instrumentation passes
        self, _method: bytes, _url: httpx.URL, *, headers: list[tuple[bytes, bytes]], request: httpx.Request
    ) -> httpx.Response:
        if headers:
            request.headers.update(headers)  # traceparent
        try:
            return await self._transport.handle_async_request(request)
        except Exception as error:  # noqa: BLE001 - raised again outside the instrumentation
            raise _WithheldError(error) from None

    async def aclose(self) -> None:
        await self._transport.aclose()


class _WithheldError(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error
