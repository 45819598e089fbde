"""What every log line of a request says about it, as soon as it is known, such as `client_id` and `flow_id`.

Lines from anywhere in the request have the fields, and the `trace_id` while there is tracing. None is a secret. They
are in one dictionary for each request: structlog's own context has a variable for each field, and copies all of them
for each line. Beside them are the facts that only the audit trail tells, because they name people.
"""

import re
from contextvars import ContextVar

from structlog.typing import EventDict, WrappedLogger

from seed_oauth.envelopes import trace_context

_PRINTABLE = re.compile(r"[!-~]{1,256}")

_fields: ContextVar[dict[str, str] | None] = ContextVar("log_fields", default=None)
_facts: ContextVar[dict[str, object] | None] = ContextVar("audit_facts", default=None)


def begin(correlation_id: str) -> None:
    """Begin a request, without the fields of an earlier one that was pipelined on the same connection."""
    _fields.set({"correlation_id": correlation_id})
    _facts.set({})


def note(**fields: str | None) -> None:
    """Add fields, except for those that are None or could disturb a log, because clients can send any text."""
    known = _fields.get()
    if known is None:
        return
    for name, value in fields.items():
        if value and _PRINTABLE.fullmatch(value):
            known[name] = value


def noted(name: str) -> str | None:
    """The field of this name, if it is known."""
    return (_fields.get() or {}).get(name)


def fact(**facts: object) -> None:
    """Add facts for the audit trail: keys and meanings are in `access.audit.FACTS`."""
    known = _facts.get()
    if known is not None:
        known.update(facts)


def audited() -> dict[str, object]:
    """The facts for the audit trail, with the log's own fields; the subject is the real one."""
    logged = _fields.get() or {}
    facts = _facts.get() or {}
    return {**{name: value for name, value in logged.items() if name != "subject"}, **facts}


def merge(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the fields of the request to a log line; structlog calls it for each one."""
    known = _fields.get()
    if known is None:
        return event
    trace_id = trace_context.trace_id()
    return {**known, **event} if trace_id is None else {**known, "trace_id": trace_id, **event}
