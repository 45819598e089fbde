"""What the supervisor does where the host lets it down; what it does with real workers is in `integration`."""

import asyncio
import errno
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from seed_oauth.server import supervisor
from seed_oauth.server.fork_server import ForkServer
from seed_oauth.server.listener import listen
from seed_oauth.settings import Settings
from seed_oauth.telemetry import Pipeline

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers that share a socket"),
]


async def test_a_worker_that_cannot_be_started_is_tried_again_and_leaves_nothing_open() -> None:
    """A host that is out of processes for a moment must not take the other workers with it."""
    open_files: list[int] = []
    connection, of_the_fork_server = socket.socketpair()
    connection.setblocking(False)

    def has_no_process_to_spare() -> None:
        open_files.append(len(list(Path("/dev/fd").iterdir())))
        _, files, _, _ = socket.recv_fds(of_the_fork_server, 32, 8)
        for file in files:
            os.close(file)
        if len(open_files) == 3:
            worker.stop(signal.SIGTERM)
        of_the_fork_server.sendall(str(-errno.EAGAIN).encode())

    pipeline = Pipeline()
    with connection, of_the_fork_server, listen("127.0.0.1", 0, "PORT") as listening, capture_logs() as logs:
        asyncio.get_running_loop().add_reader(of_the_fork_server, has_no_process_to_spare)
        worker = supervisor.Worker(0, Settings(), listening, ForkServer(connection))
        await worker.keep_running(pipeline)
        asyncio.get_running_loop().remove_reader(of_the_fork_server)
    pipeline.shutdown()
    assert len(set(open_files)) == 1
    assert [(line["event"], line["worker"]) for line in logs] == [("worker cannot be started", "0")] * 3
    assert not worker.is_up
