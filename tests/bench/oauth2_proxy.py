"""oauth2-proxy, which checks the JWTs of an identity provider as the front door does, pinned and built when missing."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from contenders import CACHE
from load import BenchmarkError

MODULE = "github.com/oauth2-proxy/oauth2-proxy/v7"
VERSION = "v7.15.6"
PROGRAM = CACHE / f"oauth2-proxy-{VERSION}"


def install() -> str:
    """Build it, if it is not there, and tell its version.

    Raises:
        BenchmarkError: there is no Go, or it could not build it.
    """
    if not PROGRAM.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            environment = {**os.environ, "GOBIN": folder, "GOFLAGS": "-mod=mod"}
            command = [_go(), "install", f"{MODULE}@{VERSION}"]
            built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if built.returncode:
                raise BenchmarkError(f"{' '.join(command)} failed: {built.stderr}")
            # It is made elsewhere and moved here whole: what is here is complete.
            (Path(folder) / "oauth2-proxy").rename(PROGRAM)
    return VERSION


def command(port: int, *, mcp_server: str, identity_provider: str, issuer: str, audience: str) -> list[str]:
    """What starts it with its check of JWTs on; everything else is as it comes."""
    return [
        str(PROGRAM),
        f"--http-address=127.0.0.1:{port}",
        f"--upstream={mcp_server}",
        "--provider=oidc",
        "--skip-oidc-discovery=true",
        f"--oidc-issuer-url={issuer}",
        f"--oidc-jwks-url={identity_provider}/jwks",
        f"--login-url={identity_provider}/authorize",
        f"--redeem-url={identity_provider}/token",
        f"--client-id={audience}",
        "--client-secret=bench-secret",
        "--cookie-secret=a-cookie-secret-of-32-characters",
        "--email-domain=*",
        "--skip-jwt-bearer-tokens=true",
    ]


WITHOUT_A_CHECK = ["--skip-auth-route=.*"]
"""What turns the check off."""


def _go() -> str:
    if found := shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin"):
        return found
    raise BenchmarkError("oauth2-proxy needs Go to be built: https://go.dev/dl, or leave it out with --peers nginx")
