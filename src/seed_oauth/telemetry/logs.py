"""Logging: one line per request on standard output, as JSON or as text for people."""

import logging
import sys
import traceback
from datetime import UTC, datetime

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from seed_oauth.http import log_fields
from seed_oauth.settings import Settings

_MINUTE = 60.0


def configure(settings: Settings) -> None:
    """Configure structlog, and the standard library's logging (uvicorn, OpenTelemetry) for the same stream.

    Call it before `create_app`, which caches its loggers.
    """
    timestamp: Processor
    render: Processor
    if settings.log_format == "json":
        timestamp, render = _timestamp, _json
    else:
        timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    shared: list[Processor] = [
        log_fields.merge,
        structlog.processors.add_log_level,
        timestamp,
        _without_message,
    ]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    handler.addFilter(_OnceAMinute("opentelemetry"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _OnceAMinute(logging.Filter):
    """Passes one record of these loggers per minute, so that an unreachable Collector does not flood the log."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not super().filter(record):
            return True
        if record.created - self._last < _MINUTE:
            return False
        self._last = record.created
        return True


def _timestamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    # As an object, because `isoformat` takes longer than the rest of a line's JSON, and orjson writes the same.
    event["timestamp"] = datetime.now(UTC)
    return event


def _json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z).decode()


def _without_message(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Reduce an exception to its type and stack: its message may contain secrets."""
    exc_info = event.pop("exc_info", None)
    exception = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(exception, BaseException):
        frames = traceback.extract_tb(exception.__traceback__)
        event["error_type"] = type(exception).__name__
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event
