"""What the document allows and what it forbids, sent to the door by schemathesis, which holds the answers to it."""

import re
from collections.abc import Mapping
from typing import Any

import anyio
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.python import asgi
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from structlog.testing import capture_logs

from seed_oauth import Settings, create_app
from seed_oauth.outcomes import Outcome
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.telemetry.contract import ENDPOINTS
from tests.harness import CALLBACK, ISSUER, PUBLIC, SETTINGS, TOKENS
from tests.left_out import CI
from tests.model.counting import Counts, counted, counts_of
from tests.model.model import Predicted
from tests.openapi.test_document import DOORS

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

NEVER_REPEATED = ("code", "code_verifier", "refresh_token", "client_secret", "client_assertion", "token", "request")
SHORTEST = 8  # characters; anything may have fewer in common with a secret
# Hypothesis also tries the words that it finds in the source, and many of them are in answers, whoever sent them.
WORDS = re.compile(r"[A-Za-z_ ]*")

# What a request counts by itself; the rest is counted for what the door asked of the identity provider.
BY_ITSELF = ("oauth_errors_total", "oauth_authorization_requests_total", "oauth_callbacks_total",
             "oauth_dcr_registrations_total", "oauth_consent_decisions_total")  # fmt: skip

KNOWN = {"client_id": PUBLIC.client_id, "redirect_uri": CALLBACK, "resource": f"{ISSUER}/mcp"}

OTHER_CREDENTIALS = ("client_secret", "client_assertion", "client_assertion_type")

many = tried(
    max_examples=40 if CI else 8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def door(settings: Mapping[str, Any]) -> Starlette:
    """A door that knows a client, before an identity provider that gives tokens to everybody."""
    clients = SqliteClientStore(Database("sqlite:///:memory:"))
    anyio.run(clients.add, PUBLIC)
    return create_app(
        Settings(**{**SETTINGS, **settings}),
        clients=clients,
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=TOKENS)),
        client_documents=httpx.MockTransport(lambda _: httpx.Response(404)),
    )


def with_a_known_client(case: Case[Any]) -> None:
    """Let the request get further: most that is made up belongs to nobody."""
    for part in (case.query, case.body):
        if isinstance(part, dict):
            for name in part.keys() & KNOWN.keys():
                part[name] = KNOWN[name]
            if part.keys() & {"grant_type", "token"}:
                part["client_id"] = PUBLIC.client_id
                for name in OTHER_CREDENTIALS:
                    part.pop(name, None)
    case.headers.pop("Authorization", None)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("settings", [DOORS["broker"], DOORS["relay"]], ids=["broker", "relay"])
def test_every_answer_is_as_documented_counted_once_and_repeats_no_secret(
    settings: Mapping[str, Any], mode: GenerationMode
) -> None:
    """THREATS 12 and 18."""
    app = door(settings)
    with asgi.get_client(app) as client:  # type: ignore[arg-type]  # Starlette's types are wider
        for operation in operations_of(app):

            @many
            @given(operation.as_strategy(generation_mode=mode), st.booleans())
            def holds(case: Case[Any], known: bool) -> None:
                if known:
                    with_a_known_client(case)
                before = counted(app.state.pipeline)
                with capture_logs() as lines:
                    response = case.call(session=client)
                case.validate_response(response, checks=CHECKS)
                assert counts_by_itself(counted(app.state.pipeline) - before) == counts_of_what_was_logged(lines)
                repeats_no_secret(case, response)

            holds()


def operations_of(app: Starlette) -> list[APIOperation[Any, Any, Any, Any]]:
    """What can be sent something."""
    found = list(schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations())
    operations = [one.ok() for one in found if isinstance(one, Ok)]
    assert len(operations) == len(found)
    return [one for one in operations if one.query or one.body]


def counts_by_itself(grown: Counts) -> Counts:
    return Counts({series: by for series, by in grown.items() if series[0] in BY_ITSELF})


def counts_of_what_was_logged(lines: list[Any]) -> Counts:
    """One line for one request that is counted at all."""
    rows = [row_of(line) for line in lines if line["event"] == "request"]
    assert len(rows) <= 1
    return counts_by_itself(counts_of(Predicted(row=rows[0]))) if rows else Counts()


def row_of(line: Mapping[str, str]) -> Outcome:
    (outcomes,) = (table for table, endpoint in ENDPOINTS.items() if endpoint == line["endpoint"])
    return outcomes[line["outcome"].upper()]


def repeats_no_secret(case: Case[Any], response: Response) -> None:
    for part in (case.query, case.body):
        for name in NEVER_REPEATED:
            value = part.get(name) if isinstance(part, dict) else None
            if isinstance(value, str) and len(value) >= SHORTEST and not WORDS.fullmatch(value):
                assert value not in response.text, f"{name} is repeated"
