"""The README is held to the code: its commands run, its tables are complete, its outputs are real."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from seed_oauth.settings import Settings
from seed_oauth.telemetry.contract import CONTRACT, Series
from tests.cli.test_cli import PATIENCE, answers, free_port

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(mark: str) -> str:
    """The code block under an HTML comment."""
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block {mark}"
    return found[1]


def rows_of_table(header: str) -> list[list[str]]:
    """The cells of the table that begins so, less the header."""
    table = README[README.index(header) :].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_two_commands_are_one_line_each_and_need_nothing_but_python() -> None:
    for mark in ("run", "test"):
        command = block(mark)
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ")


def test_every_setting_is_in_the_table_and_every_entry_is_a_setting() -> None:
    documented = {name for row in rows_of_table("| setting | default |") for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == {name.upper() for name in Settings.model_fields}


def test_the_defaults_in_the_table_are_the_defaults() -> None:
    settings = Settings()
    for names, defaults, _ in rows_of_table("| setting | default |"):
        for name, default in zip(re.findall(r"`(\w+)`", names), re.findall(r"`(.*?)`", defaults), strict=False):
            value: Any = getattr(settings, name.lower())
            if name in {"ISSUER", "RESOURCES"}:
                continue  # made of other settings, and told so
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            assert shown.removesuffix(".0") == default


def test_every_variable_in_the_text_is_a_setting() -> None:
    known = {f"SEED_OAUTH_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"SEED_OAUTH_[A-Z_]*[A-Z]", README)) <= known


def test_the_metrics_table_is_the_contract() -> None:
    rows = {row[0].strip("`"): row for row in rows_of_table("| series | labels |")}
    assert list(rows) == [series.name for series in CONTRACT]
    for series in CONTRACT:
        _, labels, text = rows[series.name]
        assert text == series.help
        assert tuple(re.findall(r"`(\w+)`", labels)) == series.labels
        for label, values in re.findall(r"`(\w+)` = ([\w, ]+)", labels):
            assert set(values.split(", ")) == known_values(series, label)


def known_values(series: Series, label: str) -> set[str]:
    return {str(attributes[label]) for attributes in series.known}


def test_every_file_that_is_linked_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_file_list_has_every_room() -> None:
    listed = block_after("How it is built")
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "src/seed_oauth").iterdir()}
    for room in rooms - {"__init__", "__pycache__", "py.typed"}:
        assert re.search(rf"\b{room}(\.py|/)", listed), room


def block_after(heading: str) -> str:
    found = re.search(r"```text\n(.*?)```", README[README.index(heading) :], re.DOTALL)
    assert found
    return found[1]


@asynccontextmanager
async def serving_as_shown(commands: str, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """The server that the README's own commands start, on another port."""
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SEED_OAUTH_PORT": str(port),
        "SEED_OAUTH_METRICS_PORT": str(free_port()),
    }
    server = subprocess.Popen(  # noqa: S603 - the README's own commands
        ["/bin/sh", "-c", commands.replace("seed-oauth serve", "exec seed-oauth serve")],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            with anyio.fail_after(PATIENCE):
                while not await answers(http, f"http://127.0.0.1:{port}/healthz"):
                    await anyio.sleep(0.02)
            yield http, port
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0


async def test_the_server_starts_as_shown_and_answers_as_shown(tmp_path: Path) -> None:
    async with serving_as_shown(block("serve"), tmp_path) as (http, port):
        shown = re.findall(r"^\$ curl -s (\S+)\n(.*)$", README, re.MULTILINE)
        assert len(shown) >= 2
        for url, output in shown:
            assert (await http.get(url.replace(":8000", f":{port}"))).text == output


async def test_the_server_stands_before_an_mcp_server_as_shown(tmp_path: Path) -> None:
    commands = block("serve").replace("seed-oauth serve\n", "") + block("mcp-server")
    async with serving_as_shown(commands, tmp_path) as (http, port):
        response = await http.post(f"http://127.0.0.1:{port}/mcp")
    assert response.status_code == 401
    metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{metadata}"' in response.headers["www-authenticate"]


def test_the_python_server_is_protected_as_in_the_example_that_runs() -> None:
    example = (ROOT / "docs/examples/python_mcp_server.py").read_text()
    assert all(line in example for line in block("protect").splitlines())


async def test_the_app_mounts_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", f"sqlite:///{tmp_path}/clients.db")
    shown: dict[str, Any] = {}
    exec(block("mount"), shown)  # noqa: S102 - the README's own code
    app = shown["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http,
        httpx.AsyncClient(transport=httpx.ASGITransport(shown["metrics"]), base_url="http://metrics") as metrics,
    ):
        assert (await http.get("/mcp")).text == "your MCP server"
        assert (await http.get("/.well-known/oauth-authorization-server")).status_code == 200
        assert (await http.post("/oauth/register", json={})).status_code == 400
        assert 'oauth_dcr_registrations_total{result="invalid"} 1.0' in (await metrics.get("/metrics")).text
