"""The JDK's HTTP client against a door on a real socket: it asks for h2c with its first request, body and all."""

import asyncio
import json
import subprocess
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.faults.served import served_door
from tests.harness import TOKENS, code_request, registration_request
from tests.real_parts import path_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("jdk")]

PROGRAM = Path(__file__).parent / "java" / "Ask.java"


async def ask(url: str, content_type: str, *bodies: str) -> list[str]:
    """What the program prints for each body: status, version and answer."""
    command = [path_of("java"), PROGRAM, url, content_type, *bodies]  # compiled as it starts
    asked = await asyncio.to_thread(partial(subprocess.run, command, capture_output=True, text=True, check=False))
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.splitlines()


async def test_a_java_client_registers_with_its_first_request_and_again_with_its_second() -> None:
    """RFC 9110 §7.8: the wish for another protocol is ignored, and the body is read."""
    async with served_door() as at:
        body = json.dumps(registration_request(client_name="Ünï ✓"))
        answers = await ask(f"{at.listener.url}/oauth/register", "application/json", body, body)
        assert [answer.split(" ", 2)[:2] for answer in answers] == [["201", "HTTP_1_1"]] * 2
        assert {json.loads(answer.split(" ", 2)[2])["client_name"] for answer in answers} == {"Ünï ✓"}


async def test_a_java_client_exchanges_its_code() -> None:
    async with served_door() as at:
        at.idp.may_answer.set()
        form = "application/x-www-form-urlencoded"
        (answer,) = await ask(f"{at.listener.url}/oauth/token", form, urlencode(code_request()))
        assert answer.startswith("200 HTTP_1_1 ")
        assert json.loads(answer.split(" ", 2)[2])["access_token"] == TOKENS["access_token"]
