"""`seed-oauth doctor` as a real process with a real identity provider."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.test_cli import free_port, run, serving
from tests.integration.real_parts import IDP_CLIENT_SECRET, identity_provider, idp_settings

pytestmark = pytest.mark.anyio


async def test_the_doctor_checks_a_running_server_and_its_identity_provider(tmp_path: Path) -> None:
    port = free_port()
    async with identity_provider(tmp_path, port):
        environment = {**idp_settings(f"http://127.0.0.1:{port}"), "SEED_OAUTH_FLOW": "relay"}
        environment["SEED_OAUTH_CLIENT_ID_METADATA_DOCUMENTS"] = "false"  # which would be fetched from the Internet
        async with serving(tmp_path, environment) as server:
            where = {
                "SEED_OAUTH_PORT": server.url.rpartition(":")[2],
                "SEED_OAUTH_METRICS_PORT": server.metrics.split(":")[2].partition("/")[0],
            }
            environment |= where
            done = await asyncio.to_thread(run, "doctor", "--json", folder=tmp_path, environment=environment)
            shown = await asyncio.to_thread(run, "doctor", folder=tmp_path, environment=environment)
            wrong = {**environment, "SEED_OAUTH_IDP_CLIENT_SECRET": "canary"}
            refused = await asyncio.to_thread(run, "doctor", "--json", folder=tmp_path, environment=wrong)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {name: finding["status"] for name, finding in findings.items()} == {
        "settings": "ok",
        "secret keys": "warning",
        "IdP metadata": "skipped",
        "PKCE": "cannot tell",
        "redirect URI": "skipped",
        "credentials": "ok",
        "clock": "skipped",
        "access rules": "ok",
        "store": "ok",
        "MCP server": "skipped",
        "rate limits": "ok",
        "metrics port": "ok",
        "server metadata": "ok",
        "resource": "ok",
        "client documents": "skipped",
    }
    assert "the running server has its metrics at" in findings["metrics port"]["text"]
    assert shown.returncode == 0
    assert "✓ credentials" in shown.stdout
    assert "→ set SEED_OAUTH_SECRET_KEYS" in shown.stdout
    assert "skipped: in the relay flow" in shown.stdout
    assert IDP_CLIENT_SECRET not in done.stdout + shown.stdout
    assert refused.returncode == 1
    credentials = [finding for finding in json.loads(refused.stdout) if finding["check"] == "credentials"]
    assert "SEED_OAUTH_IDP_CLIENT_SECRET" in credentials[0]["remedy"]
    assert "canary" not in refused.stdout + refused.stderr


def test_unsafe_settings_are_a_finding_not_a_stack_trace(tmp_path: Path) -> None:
    done = run("doctor", folder=tmp_path, environment={"SEED_OAUTH_ISSUR": "https://door.example"})
    assert done.returncode == 1
    assert "did you mean SEED_OAUTH_ISSUER?" in done.stdout
    assert done.stderr == ""
