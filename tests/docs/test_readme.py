"""The README is held to the code: its commands run, its names exist, its outputs are real."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from seed_oauth.telemetry.contract import CONTRACT
from tests.cli.test_cli import PATIENCE, answers, free_port
from tests.docs.pages import PAGES, ROOT, block, read

pytestmark = pytest.mark.anyio

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_fits_on_a_few_screens() -> None:
    assert README.count("\n") <= 150


def test_the_two_commands_are_one_line_each_and_need_nothing_but_python() -> None:
    for mark in ("run", "test"):
        command = block(README, mark)
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ")


def test_every_install_command_names_what_there_is() -> None:
    # The project is not on PyPI: it is installed from its folder.
    texts = [page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]]
    commands = re.findall(r"pip install .*", "\n".join([*texts, read("examples/python_mcp_server.py")]))
    assert commands
    assert not [command for command in commands if re.search(r"\bseed[-_]oauth\b", command.partition("&&")[0])]


def test_the_series_of_the_specification_are_in_the_table() -> None:
    named = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert named == [series.name for series in CONTRACT][: len(named)]
    assert len(named) >= 4


@asynccontextmanager
async def serving_as_shown(commands: str, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """The server that the README's own commands start, on a different port."""
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
    async with serving_as_shown(block(README, "serve"), tmp_path) as (http, port):
        shown = re.findall(r"^\$ curl -s (\S+)\n(.*)$", README, re.MULTILINE)
        assert len(shown) >= 2
        for url, output in shown:
            assert (await http.get(url.replace(":8000", f":{port}"))).text == output


async def test_the_server_stands_before_an_mcp_server_as_shown(tmp_path: Path) -> None:
    commands = block(README, "serve").replace("seed-oauth serve\n", "") + block(README, "mcp-server")
    async with serving_as_shown(commands, tmp_path) as (http, port):
        response = await http.post(f"http://127.0.0.1:{port}/mcp")
    assert response.status_code == 401
    metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{metadata}"' in response.headers["www-authenticate"]


def test_the_python_server_is_protected_as_in_the_example_that_runs() -> None:
    example = (ROOT / "docs/examples/python_mcp_server.py").read_text()
    assert all(line in example for line in block(README, "protect").splitlines())
