"""`seed-oauth doctor --alert`: the runbook of an alert, and the findings that bear on it."""

import json
import re
from pathlib import Path

import pytest

from seed_oauth.cli.doctor.finding import about, failed, ok, warning
from seed_oauth.cli.doctor.runbook import Runbook, runbooks
from tests.cli.test_cli import run

RUNBOOKS = runbooks()
CHECKS = {
    "IdP metadata", "MCP server", "PKCE", "clock", "client documents", "credentials", "identity provider", "issuer",
    "metrics port", "rate limits", "redirect URI", "resource", "secret keys", "server metadata", "settings", "store",
}  # fmt: skip
UNCONFIGURED = {"SEED_OAUTH_CLIENT_ID_METADATA_DOCUMENTS": "false"}


@pytest.mark.parametrize("runbook", RUNBOOKS.values(), ids=RUNBOOKS)
def test_a_runbook_has_checks_that_the_doctor_makes(runbook: Runbook) -> None:
    assert runbook.checks
    assert runbook.checks <= CHECKS
    assert runbook.text.startswith("**What it means.**")


def test_every_check_bears_on_an_alert() -> None:
    assert frozenset.union(*(runbook.checks for runbook in RUNBOOKS.values())) == CHECKS


def test_other_findings_are_left_out_unless_the_settings_are_wrong() -> None:
    store, keys = ok("store", "good"), warning("secret keys", "none", "set them")
    wrong = failed("settings", "missing", "set them")
    assert about([store, keys], {"store"}) == [store]
    assert about([ok("settings", "valid"), store], {"store"}) == [store]
    assert about([wrong, keys], {"store"}) == [wrong]


def test_the_doctor_prints_the_runbook_and_what_bears_on_the_alert(tmp_path: Path) -> None:
    shown = run("doctor", "--alert", "OAuthRegistrationStoreFailing", folder=tmp_path, environment=UNCONFIGURED)
    assert "What users feel." in shown.stdout
    assert "store_failed" in shown.stdout
    assert re.search(r"^. store ", shown.stdout, re.MULTILINE)
    assert "secret keys" not in shown.stdout


def test_the_findings_about_an_alert_can_be_had_as_json(tmp_path: Path) -> None:
    done = run("doctor", "--alert", "OAuthRequestsLimited", "--json", folder=tmp_path, environment=UNCONFIGURED)
    assert {finding["check"] for finding in json.loads(done.stdout)} == {"settings", "rate limits"}
    assert done.returncode == 1  # nothing is configured


def test_an_unknown_alert_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    done = run("doctor", "--alert", "HighLatency", folder=tmp_path)
    assert done.returncode == 2
    assert "there is no alert HighLatency" in done.stderr
    assert "OAuthNotReady" in done.stderr
