"""From nothing to a tool call: `seed-oauth init` is answered in a terminal, and the server runs with its file."""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest

from tests.cli.test_cli import COMMAND, PATIENCE, free_port, serving
from tests.integration.mcp_programs import client_command, mcp_server, whole_path
from tests.integration.oidc_provider import oidc_provider
from tests.integration.person import Person

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("node")]

IN_A_TERMINAL = [
    sys.executable,
    "-c",
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
]
"""Runs a command with a terminal of its own, and passes on what is typed and what is shown."""


async def type_into(command: Sequence[str], answers: Mapping[str, str]) -> str:
    """Run a command in a terminal, and type each answer when its question is there. What the terminal has shown."""
    process = await asyncio.create_subprocess_exec(
        *IN_A_TERMINAL, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    shown = b""
    try:
        with anyio.fail_after(PATIENCE):
            for question, answer in answers.items():
                # The space at the end counts: that of a secret is shown once the echo is off, and turning it off
                # discards what has been typed until then (TCSAFLUSH in `getpass`).
                while not re.search(re.escape(question.encode()) + rb".*: \Z", shown):
                    read = await process.stdout.read(4096)
                    assert read, shown.decode()
                    shown += read
                process.stdin.write(f"{answer}\n".encode())
            rest, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (shown + rest).decode()
    return (shown + rest).decode()


async def test_init_in_a_terminal_leads_to_a_first_tool_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door, inner = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}/mcp"
    resource, redirect_uri, file = f"{door}/mcp", f"{door}/oauth/callback", tmp_path / "seed-oauth.toml"
    monkeypatch.setenv("SEED_OAUTH_METRICS_PORT", str(free_port()))  # the usual one may be taken here
    async with (
        oidc_provider(tmp_path, redirect_uris=[redirect_uri], resource=resource) as registration,
        mcp_server(tmp_path, inner),
        Person(registration.user) as person,
    ):
        answers = {
            "1. URL at which clients reach this server": door,
            "2. Identity provider": registration.issuer,
            "3. client_id": registration.client_id,
            "4. client_secret": registration.client_secret,
            "5. URL of the MCP server": inner,
        }
        shown = await type_into([COMMAND, "init", str(file)], answers)
        assert f"Register this redirect URI there: {redirect_uri}" in shown
        assert registration.client_secret not in shown
        assert "✓" in shown  # of the doctor
        assert "✗" not in shown, shown
        async with serving(tmp_path, port=urlsplit(door).port, options=["--config", str(file)]):
            told = await whole_path(client_command("python", tmp_path), resource, person, tmp_path)
    assert told == {"sums": [3, 7], "tokens": 2}
