"""The command line as a person meets it: real processes, real ports."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import pytest

from seed_oauth.server.listener import Listener, listen
from tests.harness import CALLBACK, authorization_request, json_of, samples_of

pytestmark = pytest.mark.anyio

PATIENCE = 60
"""Seconds after which what has not come will not come, however busy the machine is."""
COMMAND = str(Path(sys.executable).with_name("seed-oauth"))


def free_port() -> int:
    """A port on loopback that stays free for a server of ours until the tests end.

    A socket is bound to it and never listens. So the system gives the port to nobody, as it would give one
    that is only looked up, also to the outgoing connection of whoever happens to run beside; but a server
    that sets SO_REUSEADDR, as they all do, can have it, again and again. Until then connections are refused.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    reserved.detach()  # the descriptor stays open as long as this process is there
    return port


@dataclass
class Server:
    url: str
    metrics: str
    process: asyncio.subprocess.Process
    http: httpx.AsyncClient

    async def stop(self) -> str:
        """SIGTERM; what it had written to standard output."""
        self.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(PATIENCE):
            out, _ = await self.process.communicate()
        return out.decode()


@asynccontextmanager
async def serving(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
    options: Sequence[str] = (),
    launcher: Sequence[str] = (),
) -> AsyncIterator[Server]:
    """`seed-oauth serve` as a process of its own, once it answers; `launcher` is a command that runs it."""
    port, metrics_port = port or free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *launcher, COMMAND, "serve", "--port", str(port), *options,
        env={**os.environ, "SEED_OAUTH_METRICS_PORT": str(metrics_port), **(environment or {})},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            with anyio.fail_after(PATIENCE):
                while not await answers(http, f"{url}/healthz"):
                    await anyio.sleep(0.02)
            yield Server(url, f"http://127.0.0.1:{metrics_port}/metrics", process, http)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    """Whether anybody listens there."""
    try:
        await http.get(url)
    except httpx.TransportError:
        return False
    return True


async def test_serve_answers_on_two_listeners_and_stops_cleanly_on_sigterm(tmp_path: Path) -> None:
    """THREATS 19: the public one has no metrics."""
    async with serving(tmp_path) as server:
        registration = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
        registered = await server.http.post(f"{server.url}/oauth/register", json=registration)
        assert registered.status_code == 201
        assert (await server.http.get(f"{server.url}/metrics")).status_code == 404
        samples = samples_of((await server.http.get(server.metrics)).text)
        assert samples["oauth_dcr_registrations_total", frozenset({("result", "success")})] == 1
        assert (await server.http.get(server.metrics.replace("/metrics", "/oauth/register"))).status_code == 404

        log = await server.stop()
        assert server.process.returncode == 0
    first, second = log.splitlines()
    assert '"event":"not configured"' in first
    assert "SEED_OAUTH_IDP_ISSUER" in first
    assert '"outcome":"registered"' in second
    assert f'"correlation_id":"{registered.headers["x-correlation-id"]}"' in second


async def test_clients_survive_a_restart(tmp_path: Path) -> None:
    idp = {
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": "https://idp.example/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": "https://idp.example/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
    }
    async with serving(tmp_path, idp) as server:
        registration = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
        client_id = json_of(await server.http.post(f"{server.url}/oauth/register", json=registration))["client_id"]
        await server.stop()
    assert (tmp_path / "seed-oauth.db").exists()
    async with serving(tmp_path, {**idp, "SEED_OAUTH_LOG_FORMAT": "console"}) as server:
        assert (await server.http.get(f"{server.url}/readyz")).status_code == 200
        request = authorization_request(client_id=client_id)
        response = await server.http.get(f"{server.url}/oauth/authorize", params=request)
        assert response.status_code == 200
        assert "outcome=consent_asked" in await server.stop()


async def test_a_request_under_way_is_finished_after_sigterm(tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def idp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"access_token":"at"}')
        writer.close()

    listening = await asyncio.start_server(idp, "127.0.0.1", 0)
    idp_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    environment = {
        "SEED_OAUTH_FLOW": "relay",
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{idp_url}/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": f"{idp_url}/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
    }
    async with serving(tmp_path, environment) as server:
        registration = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
        client_id = json_of(await server.http.post(f"{server.url}/oauth/register", json=registration))["client_id"]
        form = {"grant_type": "refresh_token", "refresh_token": "rt", "client_id": client_id}
        exchange = asyncio.create_task(server.http.post(f"{server.url}/oauth/token", data=form))
        await asked.wait()
        server.process.send_signal(signal.SIGTERM)
        answer.set()
        assert (await exchange).status_code == 200
        await server.process.communicate()
        assert server.process.returncode == 0
    listening.close()


def run(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", **(environment or {})},
    )


@pytest.mark.parametrize(
    ("option", "setting"), [("--port", "SEED_OAUTH_PORT"), ("--metrics-port", "SEED_OAUTH_METRICS_PORT")]
)
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_taken_port_is_told_in_a_line_that_names_the_setting(
    tmp_path: Path, command: str, option: str, setting: str
) -> None:
    other = "--metrics-port" if option == "--port" else "--port"
    with listen("127.0.0.1", 0, "PORT") as taken:
        port = str(taken.getsockname()[1])
        done = run(command, option, port, other, str(free_port()), folder=tmp_path)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): set {setting} to a free port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unsafe_setting_is_told_in_a_line_before_any_port_opens(tmp_path: Path) -> None:
    done = run("serve", folder=tmp_path, environment={"SEED_OAUTH_HOST": "0.0.0.0"})  # noqa: S104 - what is refused
    assert done.returncode == 2
    assert done.stderr.startswith("seed-oauth: SEED_OAUTH_ISSUER is missing")


def test_an_mcp_server_that_is_given_as_an_option_is_checked_as_the_setting_is(tmp_path: Path) -> None:
    done = run("serve", "--mcp-server", "http://mcp.example/mcp", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("seed-oauth: SEED_OAUTH_MCP_SERVER must use https")


def test_watch_says_what_to_do_when_there_is_nothing_to_watch(tmp_path: Path) -> None:
    done = run("watch", f"http://127.0.0.1:{free_port()}/metrics", folder=tmp_path)
    assert done.returncode == 2
    assert "SEED_OAUTH_METRICS_PORT" in done.stderr
    assert "Traceback" not in done.stderr


async def test_watch_shows_a_running_instance(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.http.post(f"{server.url}/oauth/register", json={})
        done = await asyncio.to_thread(run, "watch", server.metrics, "--once", "--interval", "0.1", folder=tmp_path)
    assert done.returncode == 0
    assert "Registration" in done.stdout
    assert "bad_redirect_uri" in done.stdout


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_the_demo_goes_on_until_it_is_interrupted(tmp_path: Path, ending: signal.Signals) -> None:
    demo = await asyncio.create_subprocess_exec(
        COMMAND, "demo", "--port", "0", "--metrics-port", "0", "--latency", "0.01", "--error-rate", "0.5",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "100"},
        # Where the tests run in the background, SIGINT is ignored and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert demo.stdout is not None
    seen = ""
    with anyio.fail_after(PATIENCE):
        while "/metrics" not in seen or "authorization code" not in seen:
            seen += (await demo.stdout.read(4096)).decode(errors="replace")
    demo.send_signal(ending)
    with anyio.fail_after(PATIENCE):
        _, err = await demo.communicate()
    assert demo.returncode == 130
    assert err == b""


@pytest.mark.parametrize(
    ("environment", "warned"), [({}, True), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False)]
)
async def test_under_another_process_manager_a_partial_scrape_is_warned_of(
    tmp_path: Path, environment: Mapping[str, str], warned: bool
) -> None:
    (tmp_path / "my_app.py").write_text("from seed_oauth import create_app\n")
    uvicorn = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "my_app:create_app", "--factory", "--workers", "2",
        "--port", str(free_port()), cwd=tmp_path, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert uvicorn.stdout is not None
    told = ""
    with anyio.fail_after(PATIENCE):
        while told.count("Application startup complete") < 2:
            told += (await uvicorn.stdout.readline()).decode()
    uvicorn.terminate()
    await uvicorn.communicate()
    assert ("shows only its own share" in told) == warned


def test_help_names_every_command(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    for command in ("serve", "demo", "watch", "doctor", "clients"):
        assert command in done.stdout


def test_a_listener_on_ipv6_has_a_url_that_can_be_used() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listen("::1", 0, "PORT") as listening:
        url = httpx.URL(Listener(app=lambda *_: None, listening=listening).url)  # type: ignore[arg-type]
        assert (url.host, url.port) == ("::1", listening.getsockname()[1])
