"""What the front door exposes is what Prometheus's own lint wants, and the demo reaches all of the specification."""

import subprocess
from pathlib import Path

import pytest

from seed_oauth.outcomes import ClientFamily
from tests.cli.test_cli import COMMAND, free_port, serving
from tests.harness import Samples, samples_of
from tests.integration.login import refresh_from
from tests.integration.real_parts import identity_provider, idp_settings

pytestmark = pytest.mark.anyio

LOGINS = 14
DENIED_AT_FIRST, REMEMBERED = 2, 4
ASKED_AGAIN = 3  # of those who had their consent remembered: their applications return to a loopback address
"""How many of the demo's first so many logins."""


def complaints(promtool: str, exposition: str) -> str:
    """What `promtool check metrics` says about a scrape."""
    check = subprocess.run(  # noqa: S603 - promtool reads what we hand it
        [promtool, "check", "metrics"], input=exposition, capture_output=True, text=True, check=False
    )
    return check.stdout + check.stderr + (f"exit status {check.returncode}" if check.returncode else "")


@pytest.mark.real_parts("prometheus")
def test_promtool_complains_about_a_series_that_is_named_badly(promtool: str) -> None:
    badly = "# HELP requests Requests\n# TYPE requests counter\nrequests 1\n"
    assert "exit status" in complaints(promtool, badly)


@pytest.mark.real_parts("prometheus")
async def test_promtool_accepts_the_scrape_of_a_server_that_nobody_has_used(promtool: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        exposition = (await server.http.get(server.metrics)).text
    assert "oauth_authorization_requests_total" in exposition
    assert complaints(promtool, exposition) == ""


@pytest.mark.real_parts("prometheus")
async def test_promtool_accepts_the_scrape_after_requests_to_every_endpoint(promtool: str, tmp_path: Path) -> None:
    port = free_port()
    async with (
        identity_provider(tmp_path, port),
        serving(tmp_path, idp_settings(f"http://127.0.0.1:{port}")) as server,
    ):
        door, http = server.url, server.http
        form = await refresh_from(http, door)
        refreshed = await http.post(f"{door}/oauth/token", data=form)
        revocation = {"token": refreshed.json()["refresh_token"], "client_id": form["client_id"]}
        assert (await http.post(f"{door}/oauth/revoke", data=revocation)).status_code == 200
        assert (await http.get(f"{door}/oauth/callback")).status_code == 400
        for endpoint in ("authorize", "consent", "token", "register", "revoke"):
            assert (await http.post(f"{door}/oauth/{endpoint}")).status_code == 400
        for path in ("/.well-known/oauth-authorization-server", "/healthz", "/readyz"):
            assert (await http.get(door + path)).status_code == 200
        exposition = (await http.get(server.metrics)).text
    for name in ("oauth_token_exchange_duration_seconds_bucket", "http_client_request_duration_seconds_bucket"):
        assert name in exposition
    assert complaints(promtool, exposition) == ""


@pytest.fixture(scope="module")
def demo_scrape(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The last scrape of `seed-oauth demo --once`, which agreed with what its clients saw."""
    folder = tmp_path_factory.mktemp("demo")
    scrape = folder / "scrape.txt"
    ports = ["--port", "0", "--metrics-port", "0"]
    demo = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, "demo", "--once", *ports, "--logins", str(LOGINS), "--save-scrape", str(scrape)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    return scrape.read_text()


@pytest.fixture
def samples(demo_scrape: str) -> Samples:
    return samples_of(demo_scrape)


def by_labels(samples: Samples, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """One metric's samples by the values of these labels, added up over the others, without those at 0."""
    added: dict[tuple[str, ...], float] = {}
    for (sample, attributes), value in samples.items():
        if sample == name and value:
            values = tuple(dict(attributes)[label] for label in labels)
            added[values] = added.get(values, 0) + value
    return added


@pytest.mark.real_parts("prometheus")
def test_promtool_accepts_the_scrape_of_the_demo(promtool: str, demo_scrape: str) -> None:
    assert complaints(promtool, demo_scrape) == ""


def test_the_demo_reaches_all_eight_points_of_an_authorization(samples: Samples) -> None:
    reasons = {
        reason: count
        for (endpoint, reason), count in by_labels(samples, "oauth_errors_total", "endpoint", "reason").items()
        if endpoint == "authorize"
    }
    assert reasons == {
        "not_configured": 1,
        "bad_code_challenge_method": 1,
        "bad_code_challenge_length": 1,
        "bad_code_challenge_format": 1,
        "unknown_client": 1,
        "bad_redirect_uri": 1,
        "client_lookup_failed": 1,
    }
    results = by_labels(samples, "oauth_authorization_requests_total", "result")
    # Ten of the failures happen later in a login. A denied consent is an error too, including the one of the failures.
    assert results == {
        ("success",): LOGINS + REMEMBERED + 10,
        ("error",): 6 + DENIED_AT_FIRST + 1,
        ("invalid_client",): 1,
    }


def test_people_in_the_demo_approve_deny_and_come_again_unasked_where_that_is_safe(samples: Samples) -> None:
    assert by_labels(samples, "oauth_consent_decisions_total", "decision") == {
        ("approved",): LOGINS + ASKED_AGAIN + 10,
        ("denied",): DENIED_AT_FIRST + 1,
    }


def test_the_demo_comes_back_from_the_identity_provider_with_every_result(samples: Samples) -> None:
    # Of those ten one is given up there, one comes back in another browser, and the exchange of one fails.
    returned = LOGINS + REMEMBERED + 7
    assert by_labels(samples, "oauth_callbacks_total", "result") == {
        ("success",): returned,
        ("denied",): 1,
        ("error",): 3,
    }
    assert by_labels(samples, "oauth_authorization_wait_seconds_count") == {(): returned}
    assert {
        reason
        for endpoint, reason in by_labels(samples, "oauth_errors_total", "endpoint", "reason")
        if endpoint == "callback"
    } == {"bad_state", "denied", "idp_server_error", "other_browser"}


def test_the_funnel_of_the_demo_is_what_its_requests_came_to(samples: Samples) -> None:
    steps = by_labels(samples, "oauth_flow_steps_total", "step")
    assert steps["registered",] == by_labels(samples, "oauth_dcr_registrations_total", "result")["success",]
    assert steps["redirected",] == by_labels(samples, "oauth_authorization_requests_total", "result")["success",]
    assert steps["returned",] == by_labels(samples, "oauth_callbacks_total", "result")["success",]
    exchanges = by_labels(samples, "oauth_token_exchanges_total", "grant_type", "result")
    # One client leaves its code_verifier out, and gets no tokens.
    assert steps["exchanged",] == exchanges["authorization_code", "success"] - 1
    # Each client begins with a request without a token, and reads both documents; logins that are to fail use no token.
    challenged = by_labels(samples, "oauth_resource_requests_total", "result")["challenged",]
    assert steps["challenged",] == steps["discovered_resource",] == steps["discovered_server",] == challenged
    assert steps["consented",] == by_labels(samples, "oauth_consent_decisions_total", "decision")["approved",]
    assert steps["used",] == LOGINS + REMEMBERED
    # One refresh was sent twice, and got the same answer without another exchange.
    assert steps["refreshed",] == exchanges["refresh_token", "success"] + 1
    assert {family for (family,) in by_labels(samples, "oauth_flow_steps_total", "client_family")} == set(ClientFamily)


def test_the_demo_exchanges_both_grants_with_success_and_failure(samples: Samples) -> None:
    assert by_labels(samples, "oauth_token_exchanges_total", "grant_type", "result") == {
        # Of those eight one fails at the identity provider.
        ("authorization_code", "success"): LOGINS + REMEMBERED + 7,
        ("authorization_code", "failure"): 1,
        ("refresh_token", "success"): 2 * LOGINS + 2,
        ("refresh_token", "failure"): 2,
    }


def test_the_demo_registers_with_every_result(samples: Samples) -> None:
    # Eighteen failures begin with a registration that succeeds.
    assert by_labels(samples, "oauth_dcr_registrations_total", "result") == {
        ("success",): LOGINS + 18,
        ("invalid",): 1,
        ("error",): 1,
    }


def test_exchanges_and_the_count_of_their_durations_agree_for_each_grant(samples: Samples) -> None:
    exchanges = by_labels(samples, "oauth_token_exchanges_total", "grant_type")
    durations = by_labels(samples, "oauth_token_exchange_duration_seconds_count", "grant_type")
    assert (
        exchanges
        == durations
        == {
            ("authorization_code",): LOGINS + REMEMBERED + 8,
            ("refresh_token",): 2 * LOGINS + 4,
        }
    )
