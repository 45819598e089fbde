"""Who is measured, and how each is installed and started.

FastMCP's OAuthProxy is left out: it exchanges the code in its callback and answers a token request from its
own store with a code that works once, so no repeated request to it does the work that is compared here.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from load import BenchmarkError
from servers import free_port, uvicorn

TYPESCRIPT_SDK = Path(__file__).with_name("typescript_sdk")
CACHE = Path.home() / ".cache" / "seed-oauth"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where one run of a contender lives."""

    port: int
    identity_provider: str
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Contender:
    install: Callable[[], str]
    """Makes it startable and says what exactly it is, versions and all."""
    command: Callable[[Site], list[str]]
    environment: Callable[[Site], Mapping[str, str]]
    ready: str
    """The path whose expected answer says that it serves."""
    ready_status: int = 200
    prefix: str = ""
    """What comes before /authorize, /token and /register."""
    registers: bool = True


def _versions(*distributions: str) -> str:
    return ", ".join(f"{name} {version(name)}" for name in distributions)


def _install_floor() -> str:
    return _versions("starlette", "aiohttp", "uvicorn", "uvloop", "httptools")


def _floor_command(site: Site) -> list[str]:
    return uvicorn("floor:app", site.port)


def _floor_environment(site: Site) -> Mapping[str, str]:
    return {"BENCH_IDENTITY_PROVIDER": site.identity_provider}


def _install_typescript_sdk() -> str:
    npm, node = _program("npm"), _program("node")
    folder = _typescript_sdk_folder()
    # Node looks for packages beside the program, so the program goes to them, and is always the present one.
    shutil.copytree(TYPESCRIPT_SDK, folder, dirs_exist_ok=True)
    # npm writes this file last: without it an installation was cut short.
    if not (folder / "node_modules" / ".package-lock.json").exists():
        _run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=folder)
    pinned = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = ", ".join(f"{name} {number}" for name, number in pinned.items())
    return f"{packages}, Node {_run(node, '--version', folder=folder)}"


def _typescript_sdk_folder() -> Path:
    pins = b"".join((TYPESCRIPT_SDK / name).read_bytes() for name in ("package.json", "package-lock.json"))
    return CACHE / f"bench-{hashlib.sha256(pins).hexdigest()[:12]}"


def _program(name: str) -> str:
    if found := shutil.which(name):
        return found
    raise BenchmarkError(f"typescript-sdk needs {name}: apt install nodejs npm, or leave it out with --contenders")


def _run(*command: str, folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed in {folder}: {result.stderr}")
    return result.stdout.strip()


def _typescript_sdk_command(site: Site) -> list[str]:
    server = _typescript_sdk_folder() / "server.mjs"
    return [_program("node"), str(server), str(site.port), site.identity_provider]


def _typescript_sdk_environment(_: Site) -> Mapping[str, str]:
    return {"NODE_ENV": "production"}


RATE_LIMITS = ("AUTHORIZE", "REGISTER", "TOKEN", "TOKEN_ADDRESS")


def _seed_oauth_program() -> Path:
    return Path(sys.executable).with_name("seed-oauth")


def _install_seed_oauth() -> str:
    if not _seed_oauth_program().exists():
        raise BenchmarkError(f"{_seed_oauth_program()} is missing: pip install the project into this environment")
    return f"{_versions('seed-oauth')}, Python {sys.version.split()[0]}"


def _seed_oauth_command(_: Site) -> list[str]:
    return [str(_seed_oauth_program()), "serve"]


def _seed_oauth_environment(site: Site) -> Mapping[str, str]:
    return {
        "SEED_OAUTH_ISSUER": site.url,
        "SEED_OAUTH_PORT": str(site.port),
        "SEED_OAUTH_METRICS_PORT": str(free_port()),
        "SEED_OAUTH_FLOW": "relay",
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": f"{site.identity_provider}/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": f"{site.identity_provider}/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "bench",
        "SEED_OAUTH_IDP_CLIENT_SECRET": "bench-secret",
        "SEED_OAUTH_STORE_URL": f"sqlite:///{site.folder.absolute()}/clients.db",
        "SEED_OAUTH_LOG_FORMAT": "json",
        # It reads the metrics every few seconds, which under valgrind is every few requests.
        "SEED_OAUTH_METRICS_PAGE": "false",
        # All limits count, those by address too, and are never reached: the load is one client that sends the same code
        # again and again.
        "SEED_OAUTH_TRUSTED_PROXIES": "127.0.0.1",
        **{f"SEED_OAUTH_RATE_LIMIT_{name}": "999999999/minute" for name in RATE_LIMITS},
    }


CONTENDERS: Mapping[str, Contender] = {
    "floor": Contender(
        install=_install_floor,
        command=_floor_command,
        environment=_floor_environment,
        ready="/authorize",
        ready_status=302,
        registers=False,
    ),
    "typescript-sdk": Contender(
        install=_install_typescript_sdk,
        command=_typescript_sdk_command,
        environment=_typescript_sdk_environment,
        ready="/.well-known/oauth-authorization-server",
    ),
    "seed-oauth": Contender(
        install=_install_seed_oauth,
        command=_seed_oauth_command,
        environment=_seed_oauth_environment,
        ready="/readyz",
        prefix="/oauth",
    ),
}
