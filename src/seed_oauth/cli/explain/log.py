"""The lines of one login in a log, wherever the log was kept: in a file, by journald, by Docker or by Kubernetes."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TextIO

import orjson

from seed_oauth.flows.transaction import FLOW_ID

Line = Mapping[str, Any]

LONGEST_LINE = 65_536
"""Characters of a line that is looked at: this server writes none that is longer."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}")


class ExplainError(Exception):
    """The log does not tell the story; the message says why."""


def lines_of(identifier: str, log: TextIO) -> list[Line]:
    """The lines of the login with this flow_id, correlation_id, trace_id or grant_id, oldest first.

    The log is read twice.

    Raises:
        ExplainError: there are none.
    """
    if not _IDENTIFIER.fullmatch(identifier):
        raise ExplainError("give the reference on the error page, or a flow_id, correlation_id, trace_id or grant_id")
    flow_id, read = None, 0
    found: list[Line] = []
    for line in _requests(log):
        read += 1
        if identifier in (line.get("correlation_id"), line.get("trace_id")):
            found.append(line)
            flow_id = flow_id or line.get("flow_id")
        elif line.get("flow_id") == identifier[:FLOW_ID]:
            flow_id = identifier[:FLOW_ID]
    if flow_id is None and not found:
        raise ExplainError(_why_not(identifier, read))
    if flow_id is not None:
        log.seek(0)
        found = [line for line in _requests(log) if line.get("flow_id") == flow_id]
    # The logs of several servers may have been put one after the other.
    return sorted(found, key=_timestamp)


def _requests(log: TextIO) -> Iterator[Line]:
    """The lines about requests. Others are left out, and so is what a log driver has put before a line."""
    for text in log:
        start = text.find("{")
        if start < 0 or len(text) > LONGEST_LINE:
            continue
        try:
            line = orjson.loads(text[start:])
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict) and line.get("event") == "request" and _is_ours(line):
            yield line


def _is_ours(line: Line) -> bool:
    """Whether it has what every line about a request has; other programs write JSON, too."""
    if not all(isinstance(line.get(name), str) for name in ("timestamp", "endpoint", "outcome")):
        return False
    try:
        return datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    except ValueError:
        return False


def _timestamp(line: Line) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


def _why_not(identifier: str, read: int) -> str:
    if not read:
        return (
            "there is no line about a request: `explain` reads the log as JSON (SEED_OAUTH_LOG_FORMAT=json) "
            "at the level info (SEED_OAUTH_LOG_LEVEL)"
        )
    return f"none of the {read} lines about requests is of {identifier}: is it the log of all servers, and of that day?"
