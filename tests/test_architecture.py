"""The house rules that can be checked: imports point one way, and there is one place for each thing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "seed_oauth"

# Each room may import the rooms before it and those that are named with it, never those after it.
ORDER = [
    "outcomes",
    "redirect_uri",
    "scope",
    "resource",
    "public_keys",
    "seal",
    "presets",
    "settings",
    "database",
    "redis_database",
    "clients",
    "grants",
    "store",
    "errors",
    "answer",
    "protected_resources",
    "parameters",
    "pages",
    "pkce",
    "client_assertion",
    "client_authentication",
    "provider_metadata",
    "identity_provider",
    "transport",
    "guarded_transport",
    "access_token",
    "flows",
    "endpoints",
    "wire",
    "telemetry",
    "timed_identity_provider",
    "circuit_breaker",
    "discovery",
    "logs",
    "rate_limits",
    "early_response",
    "boundary",
    "cors",
    "security_headers",
    "protection",
    "protect",
    "request_stream",
    "reverse_proxy",
    "openapi",
    "parts",
    "app",
    "server",
    "worker",
    "supervisor",
    "doctor",
    "watch",
    "demo",
    "clients_command",
    "cli",
]
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_upwards(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    allowed = {"__init__", *ORDER[: ORDER.index(room) + 1]}
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("seed_oauth.")}
    assert {name for name in rooms if name in ORDER} <= allowed


@pytest.mark.parametrize("path", sorted(SOURCE.glob("endpoints/*.py")), ids=lambda path: path.name)
def test_endpoints_never_import_each_other_and_never_touch_a_metric(path: Path) -> None:
    for name in imports_of(path):
        assert not name.startswith(("seed_oauth.endpoints", "seed_oauth.telemetry", "seed_oauth.http.error_response"))


@pytest.mark.parametrize("path", sorted(SOURCE.glob("flows/*.py")), ids=lambda path: path.name)
def test_a_flow_knows_no_wire_no_metric_and_no_endpoint(path: Path) -> None:
    """What a flow has to say it says by an `Answer`, an `OAuthError` or the members of a token response."""
    forbidden = (
        "seed_oauth.endpoints",
        "seed_oauth.telemetry",
        "seed_oauth.http.error_response",
        "seed_oauth.endpoints.boundary",
    )
    assert not [name for name in imports_of(path) if name.startswith((*forbidden, "httpx", "sqlite3"))]


def test_the_two_flows_do_not_know_each_other() -> None:
    of_the_broker = {f"seed_oauth.flows.{path.stem}" for path in SOURCE.glob("flows/*.py")} - {"seed_oauth.flows.relay"}
    of_the_broker.discard("seed_oauth.flows.__init__")
    for name in imports_of(SOURCE / "flows" / "relay.py"):
        assert not name.startswith(tuple(of_the_broker))
    for path in SOURCE.glob("flows/*.py"):
        assert not [name for name in imports_of(path) if name.startswith("seed_oauth.flows.relay")], path.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_who_answers_requests_does_not_know_where_anything_is_stored(path: Path) -> None:
    if room_of(path) in {"client_authentication", "endpoints", "flows", "boundary"} or path.parts[-2:] in {
        ("clients", "__init__.py"),
        ("grants", "__init__.py"),
    }:
        assert not [
            name
            for name in imports_of(path)
            if "sqlite" in name.lower() or "redis" in name.lower() or name.endswith("Database")
        ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_telemetry_imports_opentelemetry(path: Path) -> None:
    if room_of(path) != "telemetry":
        assert not [name for name in imports_of(path) if name.startswith("opentelemetry")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_is_two_rooms(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("library", ["joserfc", "redis"])
def test_a_door_starts_without_what_only_signed_tokens_or_several_hosts_need(library: str) -> None:
    """It keeps its memory and its start small; see `public_keys` and `store`."""
    look = (
        "import sys, seed_oauth.cli.main, seed_oauth.server, seed_oauth.server.supervisor; "
        "from seed_oauth import Settings, create_app; create_app(Settings(store_url='sqlite:///:memory:')); "
        f"print('{library}' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert run.stdout == "False\n"
