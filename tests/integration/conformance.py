"""The official MCP conformance suite, as a program that meets an authorization server."""

import asyncio
import json
from pathlib import Path

import anyio

from tests.cli.test_cli import PATIENCE
from tests.integration.node_programs import node, packages
from tests.integration.person import Person


async def conformance(
    issuer: str, *, spec_version: str, client_id: str, port: int, resource: str, person: Person, folder: Path
) -> dict[str, str]:
    """Let the suite meet the authorization server at `issuer`, with `person` at the browser when it asks for one.

    It is the client `client_id`, registered with `http://127.0.0.1:PORT/callback`. Its reports stay in `folder`;
    what is returned is the status of each check, with what the suite has to say about it.
    """
    program = packages() / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    process = await asyncio.create_subprocess_exec(
        node(), str(program), "authorization",
        "--url", issuer,
        "--spec-version", spec_version,
        "--client-id", client_id,
        "--port", str(port),
        "--resource", resource,
        "--output-dir", str(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    try:
        with anyio.fail_after(PATIENCE):
            async for line in process.stdout:
                if (told := line.decode().strip()).startswith(f"{issuer}/"):  # where somebody has to go
                    await person.open(await person.authorize(told))
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    checks = [check for report in folder.glob("*/checks.json") for check in json.loads(report.read_text())]
    return {check["id"]: f"{check['status']} {check.get('errorMessage', '')}".rstrip() for check in checks}
