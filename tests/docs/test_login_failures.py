"""docs/how-to/when-a-login-fails.md is generated: each failure is brought about, and its log line is on the page."""

import json
from typing import Any

import pytest

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    Cause,
    ConsentOutcome,
    RegistrationOutcome,
    ResourceOutcome,
    TokenOutcome,
)
from seed_oauth.outcomes.remedies import REMEDIES
from tests.docs.login_failures import SECTIONS, Failure
from tests.docs.pages import DOCS, expect
from tests.test_secrets import logging_as

INTRODUCTION = """\
# When a login fails

Look for the log line of the failure; its `outcome` is the heading here. This page has the failures that an operator can
cause, and is generated from tests that cause them. [Outcomes](../reference/outcomes.md) lists all of them, and
[Faults](../reference/faults.md) what happens when something around the server fails.

`seed-oauth explain` reads the log, and tells the whole login with the cause and the remedy from this page:
[Explain a login](explain-a-login.md).

How to find the line:

- The error page in the browser shows a reference, and every response has it in `X-Correlation-ID`. It is the
  `correlation_id` of the line.
- `flow_id` is the same in all lines of one login, from the authorization request to the last refresh. `client_id` is
  the client; `subject` is a hash of the user's name at the identity provider, as soon as that is known.
- At the start, `serve` logs where it listens, the redirect URI to register, the store, the identity provider and the
  MCP server, and `not ready` for each of them that it cannot use. `/readyz` and `seed-oauth doctor` check the same
  later.

In the log lines below, the fields of the single request are left out: `timestamp`, `correlation_id`, `duration_ms`,
`client_id`, `client_family`, `flow_id` and `subject`.
"""

OF_ONE_REQUEST = {"timestamp", "correlation_id", "duration_ms", "client_id", "client_family", "flow_id", "subject"}

FAILURES = [failure for failures in SECTIONS.values() for failure in failures]


async def log_line(failure: Failure, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What is logged of the request that fails, without what is of this request alone."""
    with logging_as("json"):
        capsys.readouterr()
        await failure.scenario()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    line = next(line for line in reversed(lines) if line["event"] == "request")
    assert line["outcome"] == failure.outcome.reason
    return {name: value for name, value in line.items() if name not in OF_ONE_REQUEST}


def section(failure: Failure, line: dict[str, Any]) -> str:
    return "\n\n".join(
        [
            f"### `{line['endpoint']}`: `{failure.outcome.reason}`",
            failure.seen,
            f"```json\n{json.dumps(line, ensure_ascii=False)}\n```",
            f"**Cause.** {REMEDIES[failure.outcome].cause}",
            f"**Remedy.** {REMEDIES[failure.outcome].remedy}",
        ]
    )


@pytest.mark.anyio
async def test_the_page_has_each_failure_with_its_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [INTRODUCTION.rstrip()]
    for title, failures in SECTIONS.items():
        parts.append(f"## {title}")
        parts += [section(failure, await log_line(failure, capsys)) for failure in failures]
    expect(DOCS / "how-to/when-a-login-fails.md", "\n\n".join(parts) + "\n")


def test_every_failure_of_a_login_that_the_operator_causes_is_on_the_page() -> None:
    endpoints = (
        AuthorizationOutcome, ConsentOutcome, CallbackOutcome, TokenOutcome, RegistrationOutcome, ResourceOutcome,
    )  # fmt: skip
    caused = {row for rows in endpoints for row in rows if row.cause is Cause.SERVER and row.name != "UNEXPECTED"}
    assert not caused - {failure.outcome for failure in FAILURES}


def test_every_remedy_that_explain_tells_is_on_the_page() -> None:
    assert REMEDIES.keys() == {failure.outcome for failure in FAILURES}
