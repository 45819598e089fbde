"""Spans and `http_client_request_duration_seconds` around the requests to the identity provider."""

import os

import httpx
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider


class InstrumentedTransport(httpx.AsyncBaseTransport):
    """A transport with opentelemetry-instrumentation-httpx around it.

    That instrumentation writes an exception's message and stack into the span, and a message can repeat
    what was sent. So exceptions pass it in a wrapper that tells nothing.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, tracer_provider: TracerProvider, meter_provider: MeterProvider
    ) -> None:
        # The stable semantic conventions measure in seconds; without this it would be milliseconds.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        self._transport = AsyncOpenTelemetryTransport(
            _Withholding(transport), tracer_provider=tracer_provider, meter_provider=meter_provider
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises what the inner transport raises."""
        try:
            # It takes method and URL, too; from a request it would parse the URL anew and copy every header.
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

    async def handle_async_request(  # type: ignore[override]  # what the instrumentation passes on
        self, _method: bytes, _url: httpx.URL, *, headers: list[tuple[bytes, bytes]], request: httpx.Request
    ) -> httpx.Response:
        if headers:
            request.headers.update(headers)  # traceparent
        try:
            return await self._transport.handle_async_request(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes on outside
            raise _WithheldError(error) from None

    async def aclose(self) -> None:
        await self._transport.aclose()


class _WithheldError(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error
