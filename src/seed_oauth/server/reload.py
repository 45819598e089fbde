"""Reloading the settings: SIGHUP reads them again, checks them, and replaces the app without dropping a request."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic_ns
from typing import Protocol

import structlog

from seed_oauth.app import create_app
from seed_oauth.server.known_hosts import public_hosts
from seed_oauth.server.listener import Listener, refuse_default_issuer
from seed_oauth.server.process_limits import relax_garbage_collection
from seed_oauth.server.replaceable_app import ReplaceableApp
from seed_oauth.server.service_manager import notify
from seed_oauth.server.signals import RELOAD, on_signals
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.telemetry import Recording, logs
from seed_oauth.telemetry.gauges import LAST_RELOAD_SUCCESSFUL

NEEDS_RESTART = ("host", "port", "metrics_host", "metrics_port", "metrics_page", "workers")
"""The settings that a reload does not change: those of listeners and processes."""

_LOOK = 1.0  # seconds between two looks at a file


class Load(Protocol):
    """Reads the settings, as `Settings.load` does."""

    def __call__(self, **given: object) -> Settings:
        """The settings; those in `given` override what is read.

        Raises:
            SettingsError: they are invalid or unsafe.
        """


class Reloads:
    """Reloads the settings whenever it is asked to, once at a time."""

    def __init__(
        self, settings: Settings, load: Load, use: Callable[[Settings], Awaitable[None]], pipeline: Recording
    ) -> None:
        """`settings` are those in use; `use` replaces them, or raises and changes nothing."""
        self._settings = settings
        self._load = load
        self._use = use
        self._succeeded = True
        self._asked = asyncio.Event()
        pipeline.observe(LAST_RELOAD_SUCCESSFUL, lambda: {"": int(self._succeeded)})

    def ask(self) -> None:
        """Reload as soon as possible."""
        self._asked.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reload whenever it is asked for inside the block."""
        reloading = asyncio.create_task(self._run())
        try:
            yield
        finally:
            reloading.cancel()

    @asynccontextmanager
    async def on_hangup(self, watched: Path | None = None) -> AsyncIterator[None]:
        """Reload at each SIGHUP inside the block, and when the file `watched` changes."""
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(self._watch(watched)) if watched else None
        async with self.running():
            with on_signals(lambda *_: loop.call_soon_threadsafe(self.ask), RELOAD):
                yield
        if watching:
            watching.cancel()

    async def _watch(self, file: Path) -> None:
        known = _version(file)
        while True:
            await asyncio.sleep(_LOOK)
            if (found := _version(file)) != known:
                known = found
                self.ask()

    async def _run(self) -> None:
        while await self._asked.wait():
            self._asked.clear()
            # systemd measures from here (sd_notify(3)).
            notify(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}")
            self._succeeded = await self._reload()
            notify("READY=1")

    async def _reload(self) -> bool:
        try:
            settings = _loaded(self._load, self._settings)
            await self._use(settings)
        except SettingsError as error:
            _log_failure(problem=str(error))
            return False
        except Exception as unexpected:  # noqa: BLE001 - a server that runs goes on, whatever it was told to become
            _log_failure(exc_info=unexpected)
            return False
        self._settings = settings
        structlog.get_logger("seed_oauth").info("settings reloaded")
        return True


class FrontDoor:
    """The app on its listener, and the settings that both have."""

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket,
        pipeline: Recording,
        on_start: Callable[[], object] = lambda: None,
    ) -> None:
        """`on_start` is called once the listener accepts connections."""
        self._listening = listening
        self._pipeline = pipeline
        self._settings = settings
        self._app = ReplaceableApp(create_app(settings, pipeline=pipeline))
        self.listener = Listener(
            self._app, listening, hosts=public_hosts(settings), on_start=on_start, pipeline=pipeline
        )

    async def use(self, settings: Settings) -> None:
        """Answer every request that begins from now on with these settings.

        Raises:
            SettingsError: this is not possible; then nothing changes.
        """
        refuse_default_issuer(self._listening)
        logs.configure(settings)
        try:
            await self._app.replace(create_app(settings, pipeline=self._pipeline))
        except Exception:
            logs.configure(self._settings)
            raise
        self._settings = settings
        self.listener.known_hosts.answer_to(public_hosts(settings))
        gc.unfreeze()  # the app that was replaced is garbage now, or soon
        relax_garbage_collection()


def _version(file: Path) -> tuple[int, ...]:
    """What changes with the content of a file, and when another one takes its place; nothing if there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _loaded(load: Load, running: Settings) -> Settings:
    """The settings as they are set now, apart from those that need a restart."""
    wanted = load()
    kept: dict[str, object] = {name: getattr(running, name) for name in NEEDS_RESTART}
    if changed := [PREFIX + name.upper() for name in NEEDS_RESTART if getattr(wanted, name) != kept[name]]:
        structlog.get_logger("seed_oauth").warning("a change of these settings needs a restart", settings=changed)
    if "secret_keys" not in Settings.origins():  # they are random: with others, nobody would be logged in any more
        kept["secret_keys"] = [key.get_secret_value() for key in running.secret_keys]
    return load(**kept)


def _log_failure(**reason: object) -> None:
    structlog.get_logger("seed_oauth").error("settings not reloaded: the former ones stay in use", **reason)
