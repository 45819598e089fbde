"""From a failing door to somebody's inbox: the real rules, Prometheus and Alertmanager."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.test_cli import free_port, serving
from tests.integration.real_parts import eventually
from tests.real_parts import path_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("alertmanager", "prometheus")]

RULES = Path(__file__).parents[2] / "otel" / "rules"


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:  # noqa: S603 - fixed programs
        try:
            yield
        finally:
            process.kill()


@asynccontextmanager
async def inbox() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Where Alertmanager sends alerts to, as somebody's pager would get them."""
    received: list[dict[str, Any]] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length
        received.extend(json.loads(await reader.readexactly(int(length[1])))["alerts"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", received
    server.close()


def without_waiting(rules: str) -> str:
    """The rules as they are, but that nobody waits for a state to last, and that windows fit into a test."""
    rules = re.sub(r"^(\s+for:) \w+$", r"\1 0s", rules, flags=re.MULTILINE)
    return re.sub(r"^(\s+interval:) \w+$", r"\1 1s", rules, flags=re.MULTILINE)


async def test_an_alert_arrives_with_what_to_do(tmp_path: Path) -> None:
    prometheus = path_of("prometheus")
    alertmanager = path_of("prometheus-alertmanager")
    (tmp_path / "rules").mkdir()
    for file in RULES.glob("*.yaml"):
        (tmp_path / "rules" / file.name).write_text(without_waiting(file.read_text()))
    alerting, scraping = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    async with inbox() as (pager, received), serving(tmp_path) as server:
        target = httpx.URL(server.metrics).netloc.decode()
        (tmp_path / "alertmanager.json").write_text(
            json.dumps(
                {
                    "route": {"receiver": "pager", "group_wait": "0s", "group_by": ["alertname"]},
                    "receivers": [{"name": "pager", "webhook_configs": [{"url": pager}]}],
                }
            )
        )
        (tmp_path / "prometheus.json").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
                    "rule_files": [str(tmp_path / "rules" / "*.yaml")],
                    "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerting]}]}]},
                    "scrape_configs": [{"job_name": "seed-oauth", "static_configs": [{"targets": [target]}]}],
                }
            )
        )
        commands = (
            [alertmanager, f"--config.file={tmp_path}/alertmanager.json", f"--storage.path={tmp_path}/alertmanager",
             f"--web.listen-address={alerting}", "--cluster.listen-address="],
            [prometheus, f"--config.file={tmp_path}/prometheus.json", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address={scraping}"],
        )  # fmt: skip
        with running(commands[0], tmp_path / "alertmanager.log"), running(commands[1], tmp_path / "prometheus.log"):

            async def is_watched() -> bool:
                query = {"query": "count(oauth_authorization_requests_total) and on () up == 1"}
                try:
                    response = await server.http.get(f"http://{scraping}/api/v1/query", params=query)
                except httpx.TransportError:
                    return False
                return response.is_success and bool(response.json()["data"]["result"])

            await eventually(is_watched)
            assert not [alert for alert in received if alert["labels"]["alertname"] == "OAuthTargetDown"]
            await server.stop()

            async def has_arrived() -> list[dict[str, Any]]:
                return [alert for alert in received if alert["labels"]["alertname"] == "OAuthTargetDown"]

            (alert, *_) = await eventually(has_arrived)
        assert alert["status"] == "firing"
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"]["description"]
        runbook, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert anchor == "oauthtargetdown"
        assert re.fullmatch(r"https://\S+/reference/runbooks[.]html", runbook)
