"""The audit trail: one record for each decision about access, in the fields of the catalogue, and nothing secret."""

import json
import stat
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from structlog.testing import capture_logs

from seed_oauth import Pipeline, Settings, SettingsError, protect
from seed_oauth.access.audit import AUDITED, COMMON, FACTS, Event
from seed_oauth.http import log_fields
from seed_oauth.outcomes import Outcome, ResourceOutcome
from seed_oauth.telemetry.audit import AuditTrail
from seed_oauth.telemetry.contract import ENDPOINTS
from tests.broker import BrokerDoor
from tests.harness import RelayDoor, json_of, refresh_request
from tests.resource_server.issuing import SETTINGS as ISSUING
from tests.resource_server.issuing import Idp, own_token

pytestmark = pytest.mark.anyio

Record = dict[str, Any]

REFUSALS = {"access_denied", "invalid_client", "invalid_grant", "invalid_token", "insufficient_scope"}
"""The error codes that tell somebody that they may not come in."""

NOT_ABOUT_ACCESS: set[Outcome] = {ResourceOutcome.NO_TOKEN}
"""How each login begins."""


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def records(trail: Path) -> list[Record]:
    """What is in the trail; each record is checked against the catalogue."""
    found = [json.loads(line) for line in trail.read_text().splitlines()]
    known = {*COMMON, *(name for name, _ in FACTS.values()), "user.hash"}
    events = {event.action: event for event in Event}
    for each in found:
        assert set(COMMON) <= set(each) <= known
        event = events[each["event.action"]]
        assert (each["event.category"], each["event.type"]) == ([event.category], [event.type])
        rows = {outcome.reason for outcome, audited in AUDITED.items() if audited is event}
        assert each["event.reason"] in rows
    return found


def only(trail: Path, event: Event) -> Record:
    (found,) = (each for each in records(trail) if each["event.action"] == event.action)
    return found


def door(trail: Path, **settings: Any) -> BrokerDoor:
    """A front door whose identity provider is that of the demo."""
    return BrokerDoor(settings={"audit_log": str(trail), "access_tokens": "own", **settings})


def test_every_row_that_lets_in_or_refuses_is_in_the_catalogue() -> None:
    refusals = {outcome for outcomes in ENDPOINTS for outcome in outcomes if outcome.error in REFUSALS}
    assert refusals - set(AUDITED) <= NOT_ABOUT_ACCESS


def test_every_event_has_a_row_or_a_command() -> None:
    assert set(Event) - set(AUDITED.values()) == {Event.CLIENT_REVOKED}


async def test_a_login_is_recorded_from_consent_to_the_last_refresh(trail: Path) -> None:
    async with door(trail, access_tokens="own") as front_door:
        tokens = await front_door.login(scope="openid mail")
        again = await front_door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        await front_door.token(refresh_request(refresh_token="invented"))
        data = {"token": json_of(again)["refresh_token"], "client_id": "public"}
        await front_door.http.post("/oauth/revoke", data=data)
    found = records(trail)
    actions = ["consent_given", "grant_issued", "grant_refreshed", "grant_refused", "grant_revoked"]
    assert [each["event.action"] for each in found] == actions
    assert {each["oauth.client.id"] for each in found} == {"public"}
    consented, issued, refreshed, refused, revoked = found
    assert consented["oauth.flow.id"] == issued["oauth.flow.id"] == refreshed["oauth.flow.id"]
    assert issued["oauth.grant.id"] == refreshed["oauth.grant.id"] == revoked["oauth.grant.id"]
    assert issued["user.id"] == refreshed["user.id"] == revoked["user.id"]
    assert issued["oauth.scopes"] == ["mail", "openid"]
    assert issued["oauth.resource"] == "https://door.example/mcp"
    assert (issued["event.outcome"], refused["event.outcome"]) == ("success", "failure")
    assert refused["event.reason"] == "bad_refresh_token"
    assert "user.id" not in refused


async def test_a_registration_is_recorded_with_the_name_of_the_client(trail: Path) -> None:
    async with door(trail) as front_door:
        registered = json_of(await front_door.register(client_name="Somebody's client"))
    record = only(trail, Event.CLIENT_REGISTERED)
    assert record["oauth.client.id"] == registered["client_id"]
    assert record["oauth.client.name"] == "Somebody's client"


async def test_a_refused_access_token_is_recorded_and_an_accepted_one_is_not(trail: Path) -> None:
    async with door(trail, access_tokens="own", mcp_server="http://127.0.0.1:1/mcp") as front_door:
        tokens = await front_door.login()
        for token in (tokens["access_token"], "invented"):
            await front_door.http.post("/mcp", headers={"Authorization": f"Bearer {token}"})
        await front_door.http.post("/mcp")
    assert only(trail, Event.ACCESS_DENIED)["event.reason"] in {"bad_token", "inactive_token", "token_check_refused"}


async def test_a_denied_consent_is_recorded(trail: Path) -> None:
    async with door(trail) as front_door:
        page = await front_door.person.opens()
        await front_door.person.decides(page, "deny")
    assert only(trail, Event.CONSENT_DENIED)["oauth.client.id"] == "public"


@pytest.mark.parametrize(("how", "fields"), [("clear", {"user.id"}), ("hashed", {"user.hash"}), ("none", set())])
async def test_users_are_named_as_the_operator_wants(trail: Path, how: str, fields: set[str]) -> None:
    async with door(trail, audit_subject=how) as front_door:
        await front_door.login(scope="openid")
    assert set(only(trail, Event.GRANT_ISSUED)) & {"user.id", "user.hash"} == fields


async def test_the_hash_of_a_user_is_the_one_in_the_log(trail: Path) -> None:
    async with door(trail, audit_subject="hashed") as front_door:
        with capture_logs(processors=[log_fields.merge]) as logged:
            await front_door.login(scope="openid")
    (line,) = (line for line in logged if line.get("outcome") == "exchanged")
    assert only(trail, Event.GRANT_ISSUED)["user.hash"] == line["subject"]


async def test_a_record_has_the_trace_and_the_correlation_id(trail: Path) -> None:
    pipeline = Pipeline(TracerProvider())
    async with RelayDoor(settings={"audit_log": str(trail)}, pipeline=pipeline) as front_door:
        response = await front_door.register()
    record = only(trail, Event.CLIENT_REGISTERED)
    assert len(record["trace.id"]) == 32
    assert record["http.request.id"] == response.headers["X-Correlation-Id"]


async def test_the_address_is_that_of_the_client_behind_a_trusted_proxy(trail: Path) -> None:
    async with RelayDoor(settings={"audit_log": str(trail), "trusted_proxies": "10.0.0.1"}) as front_door:
        for peer, expected in (("10.0.0.1", "203.0.113.9"), ("192.0.2.1", "192.0.2.1"), ("", None)):
            trail.write_text("")
            async with front_door.client(peer, {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}) as http:
                await http.post("/oauth/register", json={"redirect_uris": ["https://app.example/callback"]})
            assert only(trail, Event.CLIENT_REGISTERED).get("client.ip") == expected


async def test_only_the_owner_may_read_the_file_and_an_earlier_trail_is_kept(trail: Path) -> None:
    for _ in range(2):
        async with RelayDoor(settings={"audit_log": str(trail)}) as front_door:
            await front_door.register()
    assert len(records(trail)) == 2
    assert stat.S_IMODE(trail.stat().st_mode) == 0o600


async def test_after_a_rotation_the_next_record_begins_a_new_file(trail: Path) -> None:
    async with RelayDoor(settings={"audit_log": str(trail)}) as front_door:
        await front_door.register()
        rotated = trail.rename(trail.with_suffix(".1"))
        await front_door.register()
    assert len(records(rotated)) == len(records(trail)) == 1
    assert stat.S_IMODE(trail.stat().st_mode) == 0o600


async def test_a_record_that_cannot_be_written_is_reported_and_its_request_answered() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here: on Linux there is")
    async with RelayDoor(settings={"audit_log": "/dev/full"}) as front_door:
        with capture_logs() as logged:
            answers = [await front_door.register() for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    (line,) = (line for line in logged if line["log_level"] == "error")
    assert line["event"] == "the audit trail cannot be written: records are lost"
    assert line["reason"] == "No space left on device"


async def test_standard_output_has_the_records_beside_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    async with RelayDoor(settings={"audit_log": "stdout"}) as front_door:
        await front_door.register()
    lines = [line for line in capfd.readouterr().out.splitlines() if '"event.dataset"' in line]
    assert [json.loads(line)["event.action"] for line in lines] == ["client_registered"]


async def test_without_the_setting_nothing_is_written(trail: Path) -> None:
    async with RelayDoor() as front_door:
        await front_door.register()
    assert not trail.exists()


@pytest.mark.parametrize("wrong", ["audit.jsonl", "stdout,audit", "syslog"])
def test_a_target_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="AUDIT_LOG must be stdout, otlp or the absolute path of a file"):
        Settings.load(audit_log=wrong)


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    settings = Settings.load(audit_log=str(tmp_path / "missing" / "audit.jsonl"))
    with pytest.raises(SettingsError, match=r"audit trail cannot be written to .*: No such file or directory"):
        AuditTrail(settings, lambda _: None, lambda _: None)


def test_otlp_needs_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with pytest.raises(SettingsError, match="AUDIT_LOG=otlp needs OTEL_EXPORTER_OTLP_ENDPOINT"):
        AuditTrail(Settings.load(audit_log="otlp"), lambda _: None, lambda _: None)


async def test_with_otlp_the_collector_gets_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        serving = Thread(target=collector.serve_forever)
        serving.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"http://127.0.0.1:{collector.server_port}/v1/logs")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        try:
            async with RelayDoor(settings={"audit_log": "otlp"}) as front_door:
                await front_door.register(client_name="Somebody's client")
        finally:
            collector.shutdown()
            serving.join()
    request = ExportLogsServiceRequest.FromString(received[0])
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    attributes = {each.key: each.value.string_value for each in record.attributes}
    assert record.event_name == "seed_oauth.audit.client_registered"
    assert attributes["oauth.client.name"] == "Somebody's client"


async def test_protect_records_refusals_too(trail: Path) -> None:
    settings = Settings(**{**ISSUING, "audit_log": str(trail)})
    app = protect(Starlette(), settings, transport=httpx.MockTransport(Idp()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://door.example") as http:
        await http.get("/mcp", headers={"Authorization": f"Bearer {own_token(settings, expires_at=1)}"})
    await app.aclose()
    record = only(trail, Event.ACCESS_DENIED)
    assert (record["event.reason"], record["client.ip"]) == ("expired_token", "127.0.0.1")


@pytest.mark.parametrize(("switched_on", "calls"), [(True, ["read_file"]), (False, [])])
async def test_calls_of_tools_are_recorded_if_the_operator_wants_it(
    trail: Path, switched_on: bool, calls: list[str]
) -> None:
    settings = Settings(**{**ISSUING, "audit_log": str(trail), "audit_tool_calls": switched_on})
    app = protect(Starlette(), settings, transport=httpx.MockTransport(Idp()))
    token = own_token(settings, expires_at=2**33)
    arguments = {"path": "a secret of the user"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://door.example") as http:
        for method, params in (("tools/list", {}), ("tools/call", {"name": "read_file", "arguments": arguments})):
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            await http.post("/mcp", json=message, headers={"Authorization": f"Bearer {token}"})
    await app.aclose()
    assert [each["gen_ai.tool.name"] for each in records(trail)] == calls
    assert "a secret of the user" not in trail.read_text()
