"""The audit trail: a stream beside the log, of every decision about access. Its catalogue is `access/audit.py`."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from time import monotonic
from typing import TYPE_CHECKING

import orjson
import structlog
from opentelemetry.trace import get_current_span
from starlette.types import Scope

from seed_oauth.access.audit import AUDITED, DATASET, Event, record
from seed_oauth.http import log_fields
from seed_oauth.outcomes import Outcome
from seed_oauth.settings import Settings, SettingsError
from seed_oauth.settings.audit import OTLP, STDOUT
from seed_oauth.telemetry.push import pushing_logger_provider, shut_down

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.sdk._logs import LoggerProvider

_MINUTE = 60.0  # seconds
_PRIVATE = 0o600


class AuditTrail:
    """Writes one record for each outcome that the catalogue names, in the order in which requests end."""

    def __init__(
        self,
        settings: Settings,
        pseudonym: Callable[[str], str | None],
        address: Callable[[Scope], str | None],
        *,
        of_a_command: bool = False,
    ) -> None:
        """Open what `settings.audit_log` names.

        Args:
            settings: where to write, and how much to say about users and tools.
            pseudonym: makes the keyed hash of a subject.
            address: finds the address of a client.
            of_a_command: nothing is written to standard output, which belongs to the command's user.

        Raises:
            SettingsError: a file cannot be opened, or there is no Collector to push to.
        """
        self._subject = settings.audit_subject
        self._tools = settings.audit_tool_calls
        self._pseudonym = pseudonym
        self._address = address
        self._streams: list[logging.Handler] = []
        self._provider: LoggerProvider | None = None
        self._otlp: Logger | None = None
        for target in settings.audit_log:
            if target == OTLP:
                self._provider = pushing_logger_provider()
                self._otlp = self._provider.get_logger(DATASET)
            elif target != STDOUT:
                self._streams.append(_File(target))
            elif not of_a_command:
                self._streams.append(logging.StreamHandler(sys.stdout))

    def record(self, outcome: Outcome, scope: Scope) -> None:
        """Record how a request has ended, if that concerns somebody's access."""
        event = AUDITED.get(outcome)
        if event is None:
            return
        facts = log_fields.audited()
        if event is Event.TOOL_CALL and not (self._tools and facts.get("tool")):
            return
        self._write(event, outcome.reason, outcome.cause is None, {**facts, "address": self._address(scope)})

    def record_command(self, event: Event, facts: Mapping[str, object]) -> None:
        """Record what an operator has done with a command."""
        self._write(event, "command", True, facts)

    def _write(self, event: Event, reason: str, succeeded: bool, facts: Mapping[str, object]) -> None:
        now = datetime.now(UTC)
        span = get_current_span().get_span_context()
        trace_id = f"{span.trace_id:032x}" if span.is_valid else None
        time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {**facts, "trace_id": trace_id}
        if "scopes" in told:
            told["scopes"] = sorted(told["scopes"])  # type: ignore[call-overload]  # a collection of names
        subject = told.pop("subject", None)
        if self._subject == "clear":
            told["subject"] = subject
        written = record(event, reason=reason, succeeded=succeeded, time=time, facts=told.items())
        if self._subject == "hashed" and isinstance(subject, str):
            written["user.hash"] = self._pseudonym(subject)
        line = logging.makeLogRecord({"msg": orjson.dumps(written).decode()})
        for stream in self._streams:
            stream.handle(line)
        if self._otlp is not None:
            self._otlp.emit(
                timestamp=int(now.timestamp() * 1e9),
                event_name=f"{DATASET}.{event.action}",
                body=event.meaning,
                attributes=written,  # type: ignore[arg-type]  # strings and lists of strings
            )

    async def aclose(self) -> None:
        """Write what is left, and close the files."""
        for stream in self._streams:
            with suppress(OSError):  # what could not be written was reported then
                stream.close()
        if self._provider is not None:
            shut_down(self._provider)


class _File(WatchedFileHandler):
    """A file that only its owner may read. When it is rotated away, the next record begins a new one."""

    def __init__(self, path: str) -> None:
        self._reported_at = float("-inf")
        try:
            super().__init__(path, encoding="utf-8")
        except OSError as failure:
            raise SettingsError(f"the audit trail cannot be written to {path}: {failure.strerror}") from None

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_opened)

    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802 - the name is that of `logging.Handler`
        """Report a record that is lost, at most once a minute; its request is answered all the same."""
        if monotonic() - self._reported_at > _MINUTE:
            self._reported_at = monotonic()
            failure = sys.exc_info()[1]
            reason = failure.strerror if isinstance(failure, OSError) else type(failure).__name__
            structlog.get_logger("seed_oauth").error(
                "the audit trail cannot be written: records are lost", path=self.baseFilename, reason=reason
            )


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)
