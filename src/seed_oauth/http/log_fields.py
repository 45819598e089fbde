"""What every log line of a request says about it, as soon as it is known: `client_id`, `flow_id` and `subject`.

Lines from anywhere in the request have the fields. None is a secret. They are in one dictionary for each request:
structlog's own context has a variable for each field, and copies all of them for each line.
"""

import re
from contextvars import ContextVar

from structlog.typing import EventDict, WrappedLogger

_PRINTABLE = re.compile(r"[!-~]{1,256}")

_fields: ContextVar[dict[str, str] | None] = ContextVar("log_fields", default=None)


def begin(correlation_id: str) -> None:
    """Begin a request, without the fields of an earlier one that was pipelined on the same connection."""
    _fields.set({"correlation_id": correlation_id})


def note(**fields: str | None) -> None:
    """Add fields, except for those that are None or could disturb a log, because clients can send any text."""
    known = _fields.get()
    if known is not None:
        known.update({name: value for name, value in fields.items() if value and _PRINTABLE.fullmatch(value)})


def merge(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the fields of the request to a log line; structlog calls it for each one."""
    known = _fields.get()
    return event if known is None else {**known, **event}
