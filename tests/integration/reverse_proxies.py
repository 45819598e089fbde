"""The reverse proxies of the how-to on forward authentication, each run with the configuration that it shows."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import nginx
import pytest

from tests.cli.test_cli import PATIENCE
from tests.integration.real_parts import eventually, ready, running
from tests.real_parts import ENVOY, ROOT, TRAEFIK, path_of

SHOWN = ROOT / "docs" / "examples" / "forward-auth"

Addresses = Mapping[str, str]
"""What stands for what is shown: the public address, the front door's and the MCP server's."""


def addresses(port: int, door_port: int, mcp_port: int) -> Addresses:
    """Those on loopback. The public one has no TLS."""
    return {
        "mcp.example.com": f"127.0.0.1:{port}",
        "127.0.0.1:8000": f"127.0.0.1:{door_port}",
        "127.0.0.1:9000": f"127.0.0.1:{mcp_port}",
    }


def _written(folder: Path, name: str, changes: Mapping[str, str], to: str | None = None) -> Path:
    """A configuration as it is shown, but for `changes`, each of which must be there."""
    text = (SHOWN / name).read_text(encoding="utf-8")
    for shown, here in changes.items():
        assert shown in text, (name, shown)
        text = text.replace(shown, here)
    written = folder / (to or name)
    written.write_text(text, encoding="utf-8")
    return written


def _nginx(folder: Path, at: Addresses) -> list[str]:
    public = at["mcp.example.com"]
    changes = {
        "listen 443 ssl;": f"listen {public};",
        "server_name mcp.example.com;": "",
        "X-Forwarded-Proto https": "X-Forwarded-Proto http",
        **at,
    }
    configuration = _written(folder, "nginx.conf", changes)
    shown = configuration.read_text(encoding="utf-8")
    configuration.write_text(nginx.AROUND.format(folder=folder, cache="", shown=shown), encoding="utf-8")
    return [path_of("nginx"), "-e", "stderr", "-c", str(configuration)]


def _nginx_with_cache(folder: Path, at: Addresses) -> list[str]:
    command = _nginx(folder, at)
    configuration = Path(command[-1])
    text = configuration.read_text(encoding="utf-8")
    cache = _written(folder, "nginx-cache.conf", {"/dev/shm/seed_oauth": f"{folder}/cache"})  # noqa: S108 - as shown
    inside = SHOWN / "nginx-cache-location.conf"
    text = text.replace("  upstream seed_oauth", f"  include {cache};\n  upstream seed_oauth", 1)
    text = text.replace("internal;\n", f"internal;\n  include {inside};\n", 1)
    configuration.write_text(text, encoding="utf-8")
    return command


def _caddy(folder: Path, at: Addresses) -> list[str]:
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    changes = {"mcp.example.com {": f"{options}http://{at['mcp.example.com']} {{", **at}
    configuration = _written(folder, "Caddyfile", changes)
    return [path_of("caddy"), "run", "--config", str(configuration), "--adapter", "caddyfile"]


def _haproxy(folder: Path, at: Addresses) -> list[str]:
    door = {"127.0.0.1:8000": at["127.0.0.1:8000"]}
    script = _written(folder, "verify.lua", {**door, "mcp.example.com": at["mcp.example.com"], '"https"': '"http"'})
    changes = {
        "bind :443 ssl crt /etc/haproxy/mcp.example.com.pem": f"bind {at['mcp.example.com']}",
        "/etc/haproxy/verify.lua": str(script),
        **door,
        "127.0.0.1:9000": at["127.0.0.1:9000"],
    }
    return [path_of("haproxy"), "-db", "-f", str(_written(folder, "haproxy.cfg", changes))]


def _traefik(folder: Path, at: Addresses) -> list[str]:
    changes = {"Host(`mcp.example.com`)": "Host(`127.0.0.1`)", **at, "      tls: {}\n": ""}
    return [
        str(TRAEFIK),
        f"--entrypoints.web.address={at['mcp.example.com']}",
        f"--providers.file.filename={_written(folder, 'traefik.yaml', changes)}",
        "--global.sendanonymoususage=false",
        "--global.checknewversion=false",
    ]


def _envoy(folder: Path, at: Addresses) -> list[str]:
    def split(address: str) -> str:
        host, _, port = address.partition(":")
        return f"{{address: {host}, port_value: {port}}}"

    changes = {
        "{address: 0.0.0.0, port_value: 443}": split(at["mcp.example.com"]),
        **{split(shown): split(at[shown]) for shown in ("127.0.0.1:8000", "127.0.0.1:9000")},
        **at,
    }
    return [str(ENVOY), "-c", str(_written(folder, "envoy.yaml", changes)), "--use-dynamic-base-id", "-l", "warning"]


_COMMANDS: Mapping[str, Callable[[Path, Addresses], list[str]]] = {
    "nginx": _nginx,
    "nginx with its cache": _nginx_with_cache,
    "caddy": _caddy,
    "haproxy": _haproxy,
    "traefik": _traefik,
    "envoy": _envoy,
}

_PARTS = {"nginx with its cache": "nginx", "traefik": "envoy and traefik", "envoy": "envoy and traefik"}
REVERSE_PROXIES = [
    pytest.param(name, marks=pytest.mark.real_parts(_PARTS.get(name, name)), id=name) for name in _COMMANDS
]


@asynccontextmanager
async def reverse_proxy(name: str, folder: Path, port: int, door_port: int, mcp_port: int) -> AsyncIterator[None]:
    """A reverse proxy that listens at `port`, once it answers."""
    command = _COMMANDS[name](folder, addresses(port, door_port, mcp_port))
    log = folder / "reverse_proxy.log"
    with running(command, log, {"HOME": str(folder)}) as process:
        url = f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server"
        await ready(url, process, log)
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:

            async def knows_its_routes() -> bool:
                return (await http.get(url)).is_success  # Traefik answers before it does

            await eventually(knows_its_routes)
        yield
