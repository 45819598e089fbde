"""The command line with real processes and real ports."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import anyio
import httpx
import pytest

from seed_oauth.server.listener import Listener, listen
from tests.harness import CALLBACK, authorization_request, json_of, samples_of

pytestmark = pytest.mark.anyio

PATIENCE = 60
"""Seconds to wait for a process, also on a busy machine."""
COMMAND = str(Path(sys.executable).with_name("seed-oauth"))


def free_port() -> int:
    """A port on loopback that is reserved for servers of the tests until they end.

    A socket is bound to it but does not listen. So the system assigns the port to no other process or outgoing
    connection, but a server with SO_REUSEADDR can bind it, repeatedly. Until then, connections are refused.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    reserved.detach()  # the descriptor stays open until this process ends
    return port


@dataclass
class Server:
    url: str
    metrics: str
    process: asyncio.subprocess.Process
    http: httpx.AsyncClient

    async def stop(self) -> str:
        """Send SIGTERM, and return standard output."""
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
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Server]:
    """A running `seed-oauth serve`; `launcher` is a command that starts it, and `pass_fds` are its descriptors."""
    port = port or free_port()
    environment = {"SEED_OAUTH_METRICS_PORT": str(free_port()), **(environment or {})}
    process = await asyncio.create_subprocess_exec(
        *launcher, COMMAND, "serve", "--port", str(port), *options,
        env={**os.environ, **environment},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            with anyio.fail_after(PATIENCE):
                while not await answers(http, f"{url}/healthz"):
                    await anyio.sleep(0.02)
            metrics = f"http://127.0.0.1:{environment['SEED_OAUTH_METRICS_PORT']}/metrics"
            yield Server(url, metrics, process, http)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    """Whether a server responds there."""
    try:
        await http.get(url)
    except httpx.TransportError:
        return False
    return True


async def test_serve_answers_on_two_listeners_and_stops_cleanly_on_sigterm(tmp_path: Path) -> None:
    """THREATS 19: the public listener has no metrics."""
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
    last = json.loads(log.splitlines()[-1])
    assert last["outcome"] == "registered"
    assert last["correlation_id"] == registered.headers["x-correlation-id"]


async def test_serve_says_where_it_listens_and_what_it_is_connected_to(tmp_path: Path) -> None:
    """The redirect URI to register is among it."""
    environment = {
        "SEED_OAUTH_IDP_ISSUER": f"http://127.0.0.1:{free_port()}",
        "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
        "SEED_OAUTH_MCP_SERVER": f"http://127.0.0.1:{free_port()}/mcp",
        "SEED_OAUTH_STORE_URL": f"sqlite:///{tmp_path}/clients.db",
    }
    async with serving(tmp_path, environment) as server:
        lines = {line["event"]: line for line in map(json.loads, (await server.stop()).splitlines())}
    assert (lines["listening"]["url"], lines["listening"]["metrics_url"]) == (server.url, server.metrics)
    assert lines["page in the browser"]["url"] == server.metrics.removesuffix("metrics")
    assert lines["clients connect to"]["resources"] == f"{server.url}/mcp"
    assert lines["store"]["where"] == f"{tmp_path}/clients.db"
    assert lines["identity provider"]["url"] == environment["SEED_OAUTH_IDP_ISSUER"]
    assert lines["identity provider"]["register_redirect_uri"] == f"{server.url}/oauth/callback"
    assert lines["MCP server"]["url"] == environment["SEED_OAUTH_MCP_SERVER"]


async def test_the_query_of_the_identity_providers_url_is_not_logged(tmp_path: Path) -> None:
    """THREATS 47."""
    idp = f"http://127.0.0.1:{free_port()}/authorize"
    async with serving(tmp_path, {"SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{idp}?key=hunter2"}) as server:
        log = await server.stop()
    assert f'"url":"{idp}?…"' in log
    assert "hunter2" not in log


async def test_the_lines_of_the_start_are_readable_in_the_console_format(tmp_path: Path) -> None:
    async with serving(tmp_path, {"SEED_OAUTH_LOG_FORMAT": "console"}) as server:
        log = await server.stop()
    assert re.search(rf"\[info +\] listening +.*url={server.url}", log)
    assert re.search(r"\[warning *\] not ready +problem='SEED_OAUTH_IDP_ISSUER is not set'", log)


Unusable = Callable[[Path], tuple[dict[str, str], str, str]]
"""From a folder: the settings, where the problem is, and what the log says of it."""


def folder_missing(folder: Path) -> tuple[dict[str, str], str, str]:
    path = folder / "missing" / "clients.db"
    return {"STORE_URL": f"sqlite:///{path}"}, str(path), "cannot be used: No such file or directory"


def not_a_database(folder: Path) -> tuple[dict[str, str], str, str]:
    path = folder / "clients.db"
    path.write_bytes(b"x" * 4096)
    return {"STORE_URL": f"sqlite:///{path}"}, str(path), "cannot be used: file is not a database"


def redis_not_there(_: Path) -> tuple[dict[str, str], str, str]:
    url = f"redis://127.0.0.1:{free_port()}"
    return {"STORE_URL": url.replace("//", "//:hush-hush@")}, url, "cannot be used: Connection refused"


def idp_not_there(_: Path) -> tuple[dict[str, str], str, str]:
    url = f"http://127.0.0.1:{free_port()}"
    return {"IDP_ISSUER": url}, url, "has not been read yet"


def mcp_server_not_there(_: Path) -> tuple[dict[str, str], str, str]:
    url = f"http://127.0.0.1:{free_port()}/mcp"
    return {"MCP_SERVER": url, "ACCESS_TOKENS": "own"}, url, "cannot be reached: Connection refused"


@pytest.mark.parametrize(
    "unusable", [folder_missing, not_a_database, redis_not_there, idp_not_there, mcp_server_not_there]
)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serve_warns_at_once_of_what_it_cannot_use_and_says_where_and_why(
    tmp_path: Path, unusable: Unusable, workers: str
) -> None:
    settings, where, why = unusable(tmp_path)
    environment = {f"SEED_OAUTH_{name}": value for name, value in settings.items()}
    async with serving(tmp_path, environment, options=["--workers", workers]) as server:
        await server.http.get(f"{server.url}/readyz")  # which looks at the same
        log = await server.stop()
    warnings = [line for line in map(json.loads, log.splitlines()) if line["event"] == "not ready"]
    assert any(line["where"] == where and why in line["problem"] for line in warnings), log
    assert "hush" not in log


async def test_the_default_store_does_not_depend_on_the_current_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        async with serving(tmp_path / name, {"XDG_STATE_HOME": str(state)}) as server:
            assert (await server.http.get(f"{server.url}/readyz")).status_code == 503
            log = await server.stop()
        assert f'"where":"{state}/seed-oauth/clients.db"' in log
        assert not list((tmp_path / name).iterdir())
    assert (state / "seed-oauth").stat().st_mode & 0o777 == 0o700


async def test_a_store_of_an_earlier_version_in_the_current_folder_is_not_lost_silently(tmp_path: Path) -> None:
    (tmp_path / "seed-oauth.db").touch()
    async with serving(tmp_path) as server:
        log = await server.stop()
    (line,) = [line for line in map(json.loads, log.splitlines()) if line.get("path")]
    assert (line["level"], line["path"]) == ("warning", f"{tmp_path}/seed-oauth.db")
    assert f"SEED_OAUTH_STORE_URL=sqlite:///{tmp_path}/seed-oauth.db" in line["remedy"]


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
    async with serving(tmp_path, {**idp, "SEED_OAUTH_LOG_FORMAT": "console"}) as server:
        assert (await server.http.get(f"{server.url}/readyz")).status_code == 200
        request = authorization_request(client_id=client_id)
        response = await server.http.get(f"{server.url}/oauth/authorize", params=request)
        assert response.status_code == 200
        assert "outcome=consent_asked" in await server.stop()


async def test_a_request_in_progress_is_finished_after_sigterm(tmp_path: Path) -> None:
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
def test_a_port_in_use_is_one_line_that_names_the_setting(
    tmp_path: Path, command: str, option: str, setting: str
) -> None:
    other = "--metrics-port" if option == "--port" else "--port"
    with listen("127.0.0.1", 0, "PORT") as taken:
        port = str(taken.getsockname()[1])
        done = run(command, option, port, other, str(free_port()), folder=tmp_path)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): set {setting} to a free port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unsafe_setting_is_one_line_before_any_port_opens(tmp_path: Path) -> None:
    done = run("serve", folder=tmp_path, environment={"SEED_OAUTH_HOST": "0.0.0.0"})  # noqa: S104 - what is refused
    assert done.returncode == 2
    assert done.stderr.startswith("seed-oauth: SEED_OAUTH_ISSUER is missing")


def test_the_option_mcp_server_is_validated_like_the_setting(tmp_path: Path) -> None:
    done = run("serve", "--mcp-server", "http://mcp.example/mcp", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("seed-oauth: SEED_OAUTH_MCP_SERVER must use https")


def test_watch_says_what_to_do_when_no_server_is_running(tmp_path: Path) -> None:
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
async def test_the_demo_runs_until_it_is_interrupted(tmp_path: Path, ending: signal.Signals) -> None:
    demo = await asyncio.create_subprocess_exec(
        COMMAND, "demo", "--port", "0", "--metrics-port", "0", "--latency", "0.01", "--error-rate", "0.5",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "100"},
        # If the tests run in the background, SIGINT is ignored, and child processes inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert demo.stdout is not None
    seen = ""
    with anyio.fail_after(PATIENCE):
        while "in the browser: http://" not in seen or "authorization code" not in seen:
            seen += (await demo.stdout.read(4096)).decode(errors="replace")
    demo.send_signal(ending)
    with anyio.fail_after(PATIENCE):
        _, err = await demo.communicate()
    assert demo.returncode == 130
    assert err == b""


async def test_the_demo_opens_its_page_in_the_browser_when_asked(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" > opened.part && mv opened.part opened\n')
    browser.chmod(0o700)
    demo = await asyncio.create_subprocess_exec(
        COMMAND, "demo", "--open", "--port", "0", "--metrics-port", "0",
        cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, env={**os.environ, "BROWSER": f"{browser} %s"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with anyio.fail_after(PATIENCE):
        while not (tmp_path / "opened").exists():
            await asyncio.sleep(0.05)
    demo.send_signal(signal.SIGINT)
    with anyio.fail_after(PATIENCE):
        await demo.wait()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", (tmp_path / "opened").read_text())


@pytest.mark.parametrize(
    ("environment", "warned"), [({}, True), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False)]
)
async def test_a_partial_scrape_under_another_process_manager_is_a_warning(
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


def test_the_version_is_shown_by_the_command_and_by_the_module(tmp_path: Path) -> None:
    module = subprocess.run(
        [sys.executable, "-m", "seed_oauth", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run("--version", folder=tmp_path).stdout == module.stdout == f"seed-oauth {version('seed-oauth')}\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    for command in ("init", "serve", "demo", "watch", "doctor", "clients", "grants", "config"):
        assert command in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [("seed-oauth cl", "clients"), ("seed-oauth config ch", "check"), ("seed-oauth se", "serve")],
)
def test_bash_completes_commands(tmp_path: Path, typed: str, completed: str) -> None:
    words = typed.split()
    script = f"""
        eval "$(_SEED_OAUTH_COMPLETE=source_bash {COMMAND})"
        COMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}
        _seed_oauth_completion {COMMAND}
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603, S607
    assert done.stdout == f"{completed}\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_for_completion_is_that_of_the_shell(tmp_path: Path) -> None:
    script = f"{COMMAND} --show-completion; true"  # so that bash does not replace itself
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603, S607
    assert "_SEED_OAUTH_COMPLETE=complete_bash" in done.stdout


def test_a_listener_on_ipv6_has_a_url_that_can_be_used() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listen("::1", 0, "PORT") as listening:
        url = httpx.URL(Listener(app=lambda *_: None, listening=listening).url)  # type: ignore[arg-type]
        assert (url.host, url.port) == ("::1", listening.getsockname()[1])
