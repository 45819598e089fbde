"""Spans and `http_client_request_duration_seconds` around the requests to the identity provider."""

import os

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider


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
