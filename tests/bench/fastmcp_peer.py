"""FastMCP as a peer, pinned in an environment of its own: its OAuthProxy, and its proxy before an MCP server."""

import hashlib
import subprocess
import sys
from pathlib import Path

from contenders import CACHE

PROGRAMS = Path(__file__).with_name("fastmcp_proxy")
PINS = PROGRAMS / "requirements.txt"


def install() -> str:
    """Make its environment, if it is not there, and tell its version."""
    python()
    return next(line for line in PINS.read_text().splitlines() if line.startswith("fastmcp==")).partition("==")[2]


def python() -> str:
    """The interpreter of the environment, made once."""
    folder = CACHE / f"bench-fastmcp-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]}"
    found = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([found, "-m", "pip", "install", "-q", "-r", PINS], check=True)
        (folder / "complete").touch()
    return str(found)


def oauth_proxy(port: int, identity_provider: str) -> list[str]:
    """What starts its OAuthProxy."""
    return [python(), str(PROGRAMS / "server.py"), str(port), identity_provider]


def proxy(port: int, *, mcp_server: str, jwks_uri: str, issuer: str, audience: str) -> list[str]:
    """What starts its proxy with its check of JWTs on."""
    return [python(), str(PROGRAMS / "resource.py"), str(port), mcp_server, jwks_uri, issuer, audience]
