"""The settings are read again at SIGHUP; requests and event streams under way are in `integration`."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import structlog
from structlog.testing import capture_logs

from seed_oauth.access.identity import Identity
from seed_oauth.access.rules import rules_of
from seed_oauth.cli.options import use_variables
from seed_oauth.server.listener import listen
from seed_oauth.server.reload import FrontDoor, Reloads
from seed_oauth.settings import Settings, SettingsError
from seed_oauth.telemetry import Pipeline
from tests.cli.test_cli import PATIENCE, Server, serving
from tests.harness import FrontDoor as Door
from tests.harness import samples_of
from tests.server.test_service_manager import manager, received

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP"),
]

SUCCESSFUL = "seed_oauth_config_last_reload_successful"
REFUSED = "settings not reloaded: the former ones stay in use"


@asynccontextmanager
async def served(folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Server]:
    """A server with the settings file of this folder."""
    async with serving(folder, environment, options=["--config", "seed-oauth.toml", *options]) as server:
        yield server


async def scopes(server: Server) -> list[str]:
    """What the metadata of the protected resource says, on a connection of its own: any worker may answer."""
    url = f"{server.url}/.well-known/oauth-protected-resource/mcp"
    response = await server.http.get(url, headers={"Connection": "close"})
    found: list[str] = response.json().get("scopes_supported", [])
    return found


async def successful(server: Server) -> float:
    return samples_of((await server.http.get(server.metrics)).text)[SUCCESSFUL, frozenset()]


async def becomes(wanted: object, look: Callable[[], Awaitable[object]]) -> None:
    """Wait until `look` finds what is wanted."""
    with anyio.fail_after(PATIENCE):
        while await look() != wanted:
            await anyio.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sighup_reads_the_settings_file_again(tmp_path: Path, workers: str) -> None:
    file = tmp_path / "seed-oauth.toml"
    file.write_text('scopes = ["before"]')
    async with served(tmp_path, "--workers", workers) as server:
        assert await scopes(server) == ["before"]
        file.write_text('scopes = ["after"]')
        server.process.send_signal(signal.SIGHUP)
        with anyio.fail_after(PATIENCE):
            while [await scopes(server) for _ in range(8)] != [["after"]] * 8:
                await anyio.sleep(0.05)
        assert await successful(server) == 1
        log = await server.stop()
        assert server.process.returncode == 0
    # With workers, the supervisor says so, and so does each of them.
    assert log.count('"event":"settings reloaded"') == {"1": 1, "2": 3}[workers]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_wrong_settings_are_refused_and_what_runs_goes_on(tmp_path: Path, workers: str) -> None:
    file = tmp_path / "seed-oauth.toml"
    file.write_text('scopes = ["before"]')
    async with served(tmp_path, "--workers", workers) as server:
        file.write_text('scope = ["after"]')
        server.process.send_signal(signal.SIGHUP)
        await becomes(0, lambda: successful(server))
        assert await scopes(server) == ["before"]
        file.write_text('scopes = ["after"]')
        server.process.send_signal(signal.SIGHUP)
        await becomes(1, lambda: successful(server))
        log = [json.loads(line) for line in (await server.stop()).splitlines()]
    assert [line["problem"] for line in log if line["event"] == REFUSED] == [
        "seed-oauth.toml: scope is not a setting: did you mean scopes?"
    ]


async def test_a_change_of_the_settings_file_is_noticed_where_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "seed-oauth.toml"
    file.write_text('scopes = ["before"]')
    async with served(tmp_path, "--reload-on-change") as server:
        file.write_text('scopes = ["after"]')
        await becomes(["after"], lambda: scopes(server))
        file.unlink()
        await becomes(0, lambda: successful(server))
        file.write_text('scopes = ["later"]')
        await becomes(["later"], lambda: scopes(server))
        await becomes(1, lambda: successful(server))


async def test_systemd_is_told_when_a_reload_begins_and_ends(tmp_path: Path) -> None:
    file = tmp_path / "seed-oauth.toml"
    file.write_text("")
    address = str(tmp_path / "notify")
    with manager(address) as receiving:
        async with served(tmp_path, environment={"NOTIFY_SOCKET": address}) as server:
            assert await received(receiving) == "READY=1"
            for content in ("", "not = a setting"):
                file.write_text(content)
                server.process.send_signal(signal.SIGHUP)
                begun, _, since = (await received(receiving)).partition("\n")
                assert begun == "RELOADING=1"
                assert since.startswith("MONOTONIC_USEC=")
                assert await received(receiving) == "READY=1"


class Reloaded:
    """What `Reloads` has made of the settings in the environment."""

    def __init__(self, settings: Settings) -> None:
        self.pipeline = Pipeline()
        self.used: list[Settings] = []
        self.failure: Exception | None = None
        self._done = asyncio.Event()
        self._reloads = Reloads(settings, Settings.load, self._use, self.pipeline)

    async def _use(self, settings: Settings) -> None:
        self._done.set()
        if self.failure is not None:
            raise self.failure
        self.used.append(settings)

    async def reload(self) -> list[dict[str, object]]:
        """Reload once; the log lines."""
        with capture_logs() as lines:
            async with self._reloads.running():
                self._reloads.ask()
                await self._done.wait()
        return [dict(line) for line in lines]

    async def was_successful(self) -> bool:
        return await Door(pipeline=self.pipeline).value(SUCCESSFUL) == 1


@contextmanager
def keeping_the_log_as_it_is() -> Iterator[None]:
    """For what configures the log of the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


async def test_keys_that_are_random_stay_the_same() -> None:
    """Otherwise a reload would end every login."""
    settings = Settings.load()
    reloaded = Reloaded(settings)
    await reloaded.reload()
    assert reloaded.used[0].secret_keys == settings.secret_keys


async def test_settings_of_listeners_and_processes_stay_and_the_log_says_that_they_need_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reloaded = Reloaded(Settings.load())
    monkeypatch.setenv("SEED_OAUTH_PORT", "9000")
    monkeypatch.setenv("SEED_OAUTH_WORKERS", "3")
    monkeypatch.setenv("SEED_OAUTH_SERVER_NAME", "new")
    lines = await reloaded.reload()
    used = reloaded.used[0]
    assert (used.port, used.workers, used.issuer, used.server_name) == (8000, 1, "http://127.0.0.1:8000", "new")
    assert lines[0] == {
        "event": "a change of these settings needs a restart",
        "settings": ["SEED_OAUTH_PORT", "SEED_OAUTH_WORKERS"],
        "log_level": "warning",
    }


async def test_the_access_rules_of_an_mcp_server_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = "http://127.0.0.1:8000/mail"
    file = tmp_path / "seed-oauth.toml"
    server = f'access_tokens = "own"\n[[mcp_servers]]\nresource = "{mail}"\nurl = "http://mail.internal/mcp"\n'
    file.write_text(server)
    monkeypatch.setenv("SEED_OAUTH_CONFIG", str(file))
    reloaded = Reloaded(Settings.load())
    file.write_text(f'{server}allowed_groups = ["ops"]')
    await reloaded.reload()
    (used,) = reloaded.used
    ann = Identity("https://idp.example", "7", groups=("staff",))
    assert rules_of(used).refusal(ann, mail) == f"ALLOWED_GROUPS of {mail}: no match"


async def test_trouble_that_nobody_expects_changes_nothing_and_is_logged() -> None:
    reloaded = Reloaded(Settings.load())
    reloaded.failure = OSError("the disk is full")
    lines = await reloaded.reload()
    assert (lines[0]["event"], lines[0]["log_level"]) == (REFUSED, "error")
    assert not await reloaded.was_successful()


async def test_an_audit_trail_that_cannot_be_written_is_refused_and_the_log_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(store_url="sqlite:///:memory:")
    wrong = Settings(audit_log=(f"{tmp_path}/missing/audit.log",), store_url=settings.store_url, log_format="console")
    with keeping_the_log_as_it_is(), listen("127.0.0.1", 0, "PORT") as listening:
        front_door = FrontDoor(settings, listening, Pipeline())
        reloads = Reloads(settings, lambda **_: wrong, front_door.use, Pipeline())
        async with reloads.running():
            reloads.ask()
            out = ""
            with anyio.fail_after(PATIENCE):
                while not out:
                    await anyio.lowlevel.checkpoint()
                    out = capsys.readouterr().out
    assert json.loads(out)["problem"].startswith("the audit trail cannot be written")


async def test_the_default_issuer_is_refused_where_others_reach_the_socket() -> None:
    settings = Settings(store_url="sqlite:///:memory:")
    with listen("0.0.0.0", 0, "PORT") as listening:  # noqa: S104 - what is tested
        front_door = FrontDoor(settings, listening, Pipeline())
        with pytest.raises(SettingsError, match="SEED_OAUTH_ISSUER is missing"):
            await front_door.use(settings)


def test_the_variables_of_a_file_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "seed-oauth.env"
    monkeypatch.setenv("SEED_OAUTH_SERVER_NAME", "of the process")
    file.write_text("SEED_OAUTH_SERVER_NAME=of the file\nSEED_OAUTH_CONTACT=before\nSEED_OAUTH_SCOPES=one")
    use_variables(file)
    file.write_text("SEED_OAUTH_CONTACT=after")
    use_variables(file)
    settings = Settings.load()
    assert (settings.server_name, settings.contact, settings.scopes) == ("of the process", "after", ())
