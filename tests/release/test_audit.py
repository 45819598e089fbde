"""The audit tells a service that knows nothing from one that knows something, and both from one that did not answer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cli.test_cli import free_port
from tests.release.locked import locked

pytestmark = pytest.mark.real_parts("release")

ROOT = Path(__file__).parents[2]


Audit = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def audit(tools: dict[str, str]) -> Audit:
    """The audit by a service that speaks as OSV does, at a URL."""

    def by(osv_url: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / ".ci/audit.py"), "-s", "osv", "--osv-url", osv_url]
        return subprocess.run(command, env=tools, capture_output=True, text=True, check=False)  # noqa: S603 - our script

    return by


@contextmanager
def service(vulnerable: str | None = None, status: int = 200) -> Iterator[str]:
    """A vulnerability service on loopback; its URL. It knows something of one package, or of none."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            package = {"name": asked, "ecosystem": "PyPI"}
            known = {"id": "PYSEC-2026-1", "summary": "made up", "affected": [{"package": package}]}
            body = json.dumps({"vulns": [known]} if asked == vulnerable else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def test_an_audit_that_finds_nothing_says_about_how_many_it_asked(audit: Audit) -> None:
    with service() as url:
        audited = audit(url)
    assert audited.returncode == 0, audited.stdout
    assert f"knows nothing against {len(locked())} dependencies" in audited.stdout


def test_an_audit_fails_on_a_known_vulnerability_and_names_it(audit: Audit) -> None:
    with service(vulnerable="starlette") as url:
        audited = audit(url)
    assert audited.returncode == 1
    assert audited.stdout == f"VULNERABLE: starlette {locked()['starlette']}: PYSEC-2026-1\n"


@pytest.mark.parametrize("status", [404, 503])
def test_a_service_that_answers_with_an_error_has_not_been_asked(audit: Audit, status: int) -> None:
    with service(status=status) as url:
        audited = audit(url)
    assert audited.returncode == 2, audited.stdout
    assert audited.stdout.splitlines()[-1].startswith("NOT AUDITED: ")


def test_a_service_that_is_not_there_has_not_been_asked(audit: Audit) -> None:
    audited = audit(f"http://127.0.0.1:{free_port()}/v1/query")
    assert audited.returncode == 2, audited.stdout
    assert audited.stdout.splitlines()[-1].startswith("NOT AUDITED: ")
