"""nginx with forward authentication and its cache, as docs/how-to/forward-authentication.md shows it."""

import shutil
import subprocess
from pathlib import Path

from load import BenchmarkError

SHOWN = Path(__file__).parents[2] / "docs" / "examples" / "forward-auth"

# One process: a master that is killed leaves its workers behind, which as root may not read below the folder of a test.
AROUND = """
user root;
master_process off;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  {cache}
  {shown}
}}
"""


def install() -> str:
    """Tell its version.

    Raises:
        BenchmarkError: it is not there.
    """
    told = subprocess.run([_program(), "-v"], capture_output=True, text=True, check=True)
    return told.stderr.strip().rpartition("/")[2]


def command(folder: Path, port: int, *, door: str, mcp_server: str) -> list[str]:
    """What starts it; the addresses are host and port. `door` is also where clients believe to be.

    Raises:
        BenchmarkError: the configuration is not what is expected.
    """
    shown = (SHOWN / "nginx.conf").read_text()
    changes = {
        "internal;\n": f"internal;\n{(SHOWN / 'nginx-cache-location.conf').read_text()}",
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "server_name mcp.example.com;": "",
        "X-Forwarded-Proto https": "X-Forwarded-Proto http",
        "mcp.example.com": door,
        "127.0.0.1:8000": door,
        "127.0.0.1:9000": mcp_server,
    }
    for text, here in changes.items():
        if text not in shown:
            raise BenchmarkError(f"nginx.conf of the documentation has no {text!r} any more")
        shown = shown.replace(text, here)
    cache = (SHOWN / "nginx-cache.conf").read_text().replace("/dev/shm/seed_oauth", f"{folder}/cache")
    configuration = folder / "nginx.conf"
    configuration.write_text(AROUND.format(folder=folder, cache=cache, shown=shown))
    return [_program(), "-e", "stderr", "-c", str(configuration)]


def _program() -> str:
    if found := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin"):
        return found
    raise BenchmarkError("nginx is not installed: apt install nginx-light")
