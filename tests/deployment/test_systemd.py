"""The systemd unit: it is valid, hardened, and leaves the server what it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seed_oauth import Settings
from seed_oauth.server.listener import DRAIN
from seed_oauth.server.process_limits import MOST_CONNECTIONS, OTHER_FILES
from seed_oauth.telemetry.push import SHUTDOWN_TIMEOUT
from tests.cli.test_cli import COMMAND, serving
from tests.docs.pages import block, read
from tests.harness import registration_request
from tests.real_parts import ROOT, path_of

FOLDER = ROOT / "otel/systemd"
SERVICE = (FOLDER / "seed-oauth.service").read_text(encoding="utf-8")
SOCKET = (FOLDER / "seed-oauth.socket").read_text(encoding="utf-8")
CREDENTIALS = block(read("how-to/systemd.md"), "credentials")

MOST_EXPOSURE = 2.0
SET_MDWE, REFUSE_EXEC_GAIN = 65, 1  # linux/prctl.h


def option(unit: str, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    return str(value)


def analyze(*arguments: str | Path) -> str:
    done = subprocess.run(  # noqa: S603 - a fixed program
        [path_of("systemd-analyze"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.real_parts("systemd")
@pytest.mark.parametrize("drop_in", ["", CREDENTIALS], ids=["as it is", "with credentials"])
def test_the_units_are_valid(drop_in: str, tmp_path: Path) -> None:
    installed = SERVICE.replace("/opt/seed-oauth/bin/seed-oauth", COMMAND)
    (tmp_path / "seed-oauth.service").write_text(f"{installed}\n{drop_in}")
    (tmp_path / "seed-oauth.socket").write_text(SOCKET)
    analyze("verify", tmp_path / "seed-oauth.service", tmp_path / "seed-oauth.socket")


@pytest.mark.real_parts("systemd")
def test_the_service_is_hardly_exposed() -> None:
    rated = analyze("security", "--offline=true", "--no-pager", FOLDER / "seed-oauth.service")
    (exposure,) = re.findall(r"Overall exposure level for seed-oauth.service: ([0-9.]+)", rated)
    assert float(exposure) <= MOST_EXPOSURE
    assert f"rates its exposure at {exposure} of 10" in read("how-to/systemd.md")


def test_the_service_has_the_time_and_the_files_that_it_needs() -> None:
    assert int(option(SERVICE, "TimeoutStopSec")) >= DRAIN + 2 * SHUTDOWN_TIMEOUT + 1
    assert int(option(SERVICE, "LimitNOFILE")) >= 2 * MOST_CONNECTIONS + OTHER_FILES


def test_the_audit_trail_can_be_written_where_its_page_has_it() -> None:
    (path,) = re.findall(r"SEED_OAUTH_AUDIT_LOG=(/\S+)", read("reference/audit.md"))
    assert path.startswith(f"/var/log/{option(SERVICE, 'LogsDirectory')}/")


def test_a_server_with_invalid_settings_is_not_restarted(tmp_path: Path) -> None:
    done = subprocess.run([COMMAND, "serve", "--port", "-1"], cwd=tmp_path, capture_output=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == int(option(SERVICE, "RestartPreventExitStatus"))


def test_the_metrics_of_the_process_are_left() -> None:
    """Their collector needs `/proc/stat`, and has no metrics at all without it."""
    assert "ProcSubset" not in SERVICE


def test_the_socket_is_where_the_server_would_listen() -> None:
    settings = Settings.load()
    assert option(SOCKET, "ListenStream") == f"{settings.host}:{settings.port}"


def test_the_secrets_are_read_from_the_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = re.findall(r"^LoadCredentialEncrypted=([\w-]+):", CREDENTIALS, re.MULTILINE)
    for name in loaded:
        (tmp_path / name).write_text("0123456789abcdef0123456789ABCDEF\n")
        (tmp_path / name).chmod(0o440)
    for name, value in re.findall(r"^Environment=(\w+)=(.*)$", CREDENTIALS, re.MULTILINE):
        monkeypatch.setenv(name, value.replace("%d", str(tmp_path)))
    settings = Settings.load(issuer="https://mcp.example.com", idp_client_id="a")
    assert settings.secret_keys
    assert settings.idp_client_secret
    assert len(Settings.origins()) == len(loaded)


def test_a_command_is_shown_that_has_the_same_credentials(tmp_path: Path) -> None:
    command = block(read("how-to/systemd.md"), "command with credentials")
    for loaded in re.findall(r"^LoadCredentialEncrypted=(.*)$", CREDENTIALS, re.MULTILINE):
        assert f"-p LoadCredentialEncrypted={loaded} " in command
    # systemd-run without systemd: it only runs the command that comes after its options.
    (tmp_path / "systemd-run").write_text('#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done\nexec "$@"\n')
    (tmp_path / "systemd-run").chmod(0o700)
    (tmp_path / "secret-keys").write_text("0123456789abcdef0123456789ABCDEF")
    (tmp_path / "idp-client-secret").write_text("hunter2")
    (tmp_path / "seed-oauth.toml").write_text("issuer = 'https://mcp.example.com'\nidp_client_id = 'a'\n")
    here = command.replace("/opt/seed-oauth/bin/seed-oauth", COMMAND).replace("--config /etc/seed-oauth", "--config .")
    done = subprocess.run(  # noqa: S603 - what the page says
        ["/bin/sh", "-c", here],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CREDENTIALS_DIRECTORY": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for _, variable in re.findall(r"^Environment=((\w+)=.*)$", CREDENTIALS, re.MULTILINE):
        assert variable in done.stdout


@pytest.mark.anyio
async def test_the_server_needs_no_memory_that_is_writable_and_executable(tmp_path: Path) -> None:
    """`MemoryDenyWriteExecute`, with the kernel's own switch."""
    refuse = f"ctypes.CDLL(None).prctl({SET_MDWE}, {REFUSE_EXEC_GAIN}, 0, 0, 0)"
    probe = subprocess.run([sys.executable, "-c", f"import ctypes; print({refuse})"], capture_output=True, check=True)  # noqa: S603
    if probe.stdout != b"0\n":
        pytest.skip("this kernel cannot refuse it (Linux 6.3 can)")
    start = f"import ctypes, os, sys; {refuse}; os.execv(sys.argv[1], sys.argv[1:])"
    async with serving(tmp_path, launcher=[sys.executable, "-c", start], options=["--workers", "2"]) as server:
        registered = await server.http.post(f"{server.url}/oauth/register", json=registration_request())
        assert registered.status_code == 201
        await server.stop()
        assert server.process.returncode == 0
