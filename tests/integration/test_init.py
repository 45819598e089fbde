"""From nothing to a tool call: `seed-oauth init` is answered in a terminal, and the server runs with its file."""

import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from tests.cli.test_cli import COMMAND, PATIENCE, free_port, serving
from tests.harness import json_of
from tests.integration.login import code_from
from tests.integration.mcp_programs import mcp_server
from tests.integration.real_parts import IDP_CLIENT_ID, IDP_CLIENT_SECRET, identity_provider
from tests.integration.test_protected_servers import client_of

pytestmark = pytest.mark.anyio

IN_A_TERMINAL = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]


async def type_into(command: list[str], answers: dict[str, str]) -> str:
    """Run a command in a terminal, and type each answer once its question is there. What the terminal has shown."""
    process = await asyncio.create_subprocess_exec(
        *IN_A_TERMINAL, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    shown = ""
    with anyio.fail_after(PATIENCE):
        for question, answer in answers.items():
            while question not in shown:
                read = await process.stdout.read(4096)
                assert read, shown
                shown += read.decode()
            process.stdin.write(f"{answer}\n".encode())
        rest, _ = await process.communicate()
    return shown + rest.decode()


async def test_init_leads_to_a_first_tool_call(tmp_path: Path) -> None:
    idp_port, door, inner = free_port(), f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}/mcp"
    path = tmp_path / "seed-oauth.toml"
    answers = {
        "1. URL at which clients reach this server": door,
        "2. Identity provider": f"http://127.0.0.1:{idp_port}",
        "3. client_id": IDP_CLIENT_ID,
        "4. client_secret": IDP_CLIENT_SECRET,
        "5. URL of the MCP server": inner,
    }
    async with identity_provider(tmp_path, idp_port), mcp_server(tmp_path, inner):
        shown = await type_into([COMMAND, "init", str(path)], answers)
        assert f"{door}/oauth/callback" in shown
        assert IDP_CLIENT_SECRET not in shown  # the terminal does not echo it
        assert " failed" not in shown  # what the doctor finds
        assert path.stat().st_mode & 0o777 == 0o600
        async with (
            serving(tmp_path, port=urlsplit(door).port, options=["--config", str(path)]) as server,
            httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
        ):
            tokens = json_of(await http.post(f"{door}/oauth/token", data=await code_from(http, door)))
            async with client_of(f"{server.url}/mcp", tokens["access_token"]) as client:
                result = await client.call_tool("add", {"a": 1, "b": 2})
    assert result.structured_content == {"result": 3}
