"""The audit trail of a whole run of the demo: every record is of the catalogue, and no secret is in it (THREATS 12)."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import structlog
from typer.testing import CliRunner

from seed_oauth.access.audit import Event
from seed_oauth.cli.main import app
from tests.telemetry.test_audit import records

SECRETS = {
    "access_token", "client_secret", "code", "code_challenge", "code_verifier", "id_token", "nonce", "refresh_token",
    "request", "state", "token",
}  # fmt: skip
"""The parameters and members that no record may repeat."""


def parameters_of(response: httpx.Response) -> Iterator[tuple[str, str]]:
    """What the client, the browser and the identity provider tell each other."""
    for url in (str(response.request.url), response.headers.get("location", "")):
        yield from parse_qsl(urlsplit(url).query)
    yield from parse_qsl(response.request.content.decode())
    if "json" in response.headers.get("content-type", ""):
        members = response.json()
        if isinstance(members, Mapping):
            yield from ((name, value) for name, value in members.items() if isinstance(value, str))
    for cookie in response.headers.get_list("set-cookie"):
        yield "state", cookie.partition(";")[0].partition("=")[2]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command logs errors alone; other tests read warnings."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_the_audit_trail_of_a_demo_keeps_to_the_catalogue_and_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = tmp_path / "audit.jsonl"
    monkeypatch.setenv("SEED_OAUTH_AUDIT_LOG", str(trail))
    secrets: dict[str, set[str]] = {name: set() for name in SECRETS}
    send = httpx.AsyncClient.send

    async def overheard(client: httpx.AsyncClient, request: httpx.Request, **options: object) -> httpx.Response:
        response = await send(client, request, **options)  # type: ignore[arg-type]
        await response.aread()
        for name, value in parameters_of(response):
            if name in secrets and value:
                secrets[name].add(value)
        return response

    monkeypatch.setattr(httpx.AsyncClient, "send", overheard)
    ports = ["--port", "0", "--metrics-port", "0"]
    done = CliRunner().invoke(app, ["demo", "--once", "--logins", "2", *ports])
    assert done.exit_code == 0, done.output

    actions = {record["event.action"] for record in records(trail)}
    events = {
        Event.CLIENT_REGISTERED, Event.CONSENT_GIVEN, Event.CONSENT_DENIED, Event.GRANT_ISSUED, Event.GRANT_REFUSED,
        Event.GRANT_REFRESHED, Event.GRANT_REUSED, Event.GRANT_REVOKED, Event.ACCESS_DENIED,
    }  # fmt: skip
    assert actions == {event.action for event in events}
    overheard_names = {name for name, values in secrets.items() if values}
    assert overheard_names >= {"access_token", "code", "code_verifier", "refresh_token", "request", "state", "token"}
    written = trail.read_text()
    assert [name for name, values in secrets.items() for value in values if value in written] == []
