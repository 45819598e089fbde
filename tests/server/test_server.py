"""What `seed-oauth serve` does with the process it has for itself."""

import asyncio
import gc
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from seed_oauth.server.listener import Listener, listen
from seed_oauth.server.process_limits import MOST_CONNECTIONS, OTHER_FILES, most_connections
from seed_oauth.server.single import run_together
from tests.cli.test_cli import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def garbage_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("garbage_collector")
async def test_the_garbage_collector_leaves_alone_what_was_there_before_the_first_request() -> None:
    with listen("127.0.0.1", 0, "PORT") as listening:
        front_door = Listener(Starlette(), listening)
        serving = asyncio.create_task(run_together(front_door))
        await asyncio.sleep(0)
        assert gc.get_freeze_count() > 10_000
        # 200 requests under way at once are some 10,000 objects that are no garbage.
        assert gc.get_threshold()[0] == 10_000
        front_door.should_exit = True
        await serving


async def test_whoever_is_connected_when_the_listener_stops_is_served_although_nobody_has_accepted_them_yet() -> None:
    """The kernel completes connections by itself, and resets them with the listening socket."""
    with listen("127.0.0.1", 0, "PORT") as listening:
        front_door = Listener(Starlette(routes=[Route("/", lambda _: Response("served"))]), listening)
        serving = asyncio.create_task(front_door.run_until_stopped())
        while not front_door.started:
            await asyncio.sleep(0)
        # As if the event loop had been busy until now.
        asyncio.get_running_loop().remove_reader(listening)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        front_door.should_exit = True
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await serving
        for client in clients:
            with client:
                client.settimeout(PATIENCE)
                assert client.recv(65536).endswith(b"served")


@pytest.mark.parametrize(
    ("pushing", "printed"), [(True, "served\n"), (False, "served\nfreed\n")], ids=["still pushing", "at rest"]
)
def test_the_end_does_not_free_what_a_thread_still_uses_that_pushes_to_a_collector(pushing: bool, printed: str) -> None:
    program = f"""
import atexit, threading
from seed_oauth.server.signals import end_beside_threads
if {pushing}:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
atexit.register(print, "freed")
print("served")
end_beside_threads()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert ended.stdout == printed


ENOUGH = 2 * MOST_CONNECTIONS + OTHER_FILES
UNLIMITED = -1 if sys.platform == "linux" else 2**63 - 1


@pytest.mark.parametrize(
    ("given", "allowed", "set_to", "connections"),
    [
        pytest.param(1024, 1_048_576, (1_048_576, 1_048_576), MOST_CONNECTIONS, id="Linux"),
        pytest.param(256, UNLIMITED, (ENOUGH, UNLIMITED), MOST_CONNECTIONS, id="macOS"),
        pytest.param(UNLIMITED, UNLIMITED, None, MOST_CONNECTIONS, id="no limit at all"),
        pytest.param(1024, 1024, None, (1024 - OTHER_FILES) // 2, id="a narrow container"),
        pytest.param(64, 64, None, 16, id="too narrow a container"),
    ],
)
def test_a_front_door_has_the_file_descriptors_for_as_many_connections_as_it_takes(
    given: int, allowed: int, set_to: tuple[int, int] | None, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limits")
    was_set: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (given, allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: was_set.append(limits))
    assert most_connections() == connections
    assert was_set == ([] if set_to is None else [set_to])
