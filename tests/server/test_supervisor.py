"""What the supervisor does where the host lets it down; what it does with real workers is in `integration`."""

import asyncio
import errno
import signal
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from seed_oauth.server import supervisor
from seed_oauth.server.listener import listen
from seed_oauth.settings import Settings
from seed_oauth.telemetry import Pipeline

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers that share a socket"),
]


async def test_a_worker_that_cannot_be_started_is_tried_again_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that is out of processes for a moment must not take the other workers with it."""
    open_files: list[int] = []

    async def has_no_process_to_spare(*_: object, **__: object) -> NoReturn:
        open_files.append(len(list(Path("/dev/fd").iterdir())))
        if len(open_files) == 3:
            worker.stop(signal.SIGTERM)
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", has_no_process_to_spare)
    pipeline = Pipeline()
    with listen("127.0.0.1", 0, "PORT") as listening, capture_logs() as logs:
        worker = supervisor.Worker(0, Settings(), listening)
        await worker.keep_running(pipeline)
    pipeline.shutdown()
    assert len(set(open_files)) == 1
    assert [(line["event"], line["worker"]) for line in logs] == [("worker cannot be started", "0")] * 3
    assert not worker.is_up
