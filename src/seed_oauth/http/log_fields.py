"""What every log line of a request says about it, as soon as it is known: `client_id`, `flow_id` and `subject`.

The fields are in structlog's context variables, so that lines from anywhere in the request have them. None is a secret.
"""

import re

from structlog.contextvars import bind_contextvars, unbind_contextvars

_PRINTABLE = re.compile(r"[!-~]{1,256}")


def begin(correlation_id: str) -> None:
    """Begin a request. A pipelined one inherits the context of the one before, so its fields are dropped."""
    unbind_contextvars("client_id", "flow_id", "subject")
    bind_contextvars(correlation_id=correlation_id)


def note(**fields: str | None) -> None:
    """Add fields, except for those that are None or could disturb a log, because clients can send any text."""
    bind_contextvars(**{name: value for name, value in fields.items() if value and _PRINTABLE.fullmatch(value)})
