"""nginx before a door, as it comes: it speaks HTTP/1.0, which knows no chunks, and sends a Host of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import nginx
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.cli.test_cli import PATIENCE, free_port
from tests.faults.served import served, served_door
from tests.integration.real_parts import ready, running
from tests.real_parts import path_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("nginx")]

PASSES_ON = """
  upstream seed_oauth {{ server {upstream}; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://seed_oauth; }}
  }}
"""


@asynccontextmanager
async def nginx_before(url: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    port, log = free_port(), folder / "nginx.log"
    configuration = folder / "nginx.conf"
    passes_on = PASSES_ON.format(port=port, upstream=url.removeprefix("http://"))
    configuration.write_text(nginx.AROUND.format(folder=folder, cache="", shown=passes_on), encoding="utf-8")
    with running([path_of("nginx"), "-e", "stderr", "-c", str(configuration)], log) as process:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as http:
            await ready(f"http://127.0.0.1:{port}/healthz", process, log)
            yield http


async def test_an_answer_of_unknown_length_arrives_whole_and_without_chunks(tmp_path: Path) -> None:
    """RFC 9112 §7.1: HTTP/1.0 does not know them."""
    versions = set()

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        versions.add(scope["http_version"])
        assert scope["type"] == "http"
        await StreamingResponse(pieces(), media_type="text/plain")(scope, receive, send)

    async def pieces() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number:04} "

    async with served(streaming) as listener, nginx_before(listener.url, tmp_path) as http:
        answer = await http.get("/")
        assert answer.text == "".join([piece async for piece in pieces()])
        assert versions == {"1.0"}


async def test_a_door_behind_nginx_as_it_comes_is_found_and_registered_at(tmp_path: Path) -> None:
    async with served_door() as at, nginx_before(at.listener.url, tmp_path) as http:
        metadata = (await http.get("/.well-known/oauth-authorization-server")).json()
        assert metadata["registration_endpoint"].endswith("/oauth/register")
        registered = await http.post("/oauth/register", json={"redirect_uris": ["https://app.example/callback"]})
        assert registered.status_code == 201
