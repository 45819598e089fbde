"""Processes that are forked from one that has loaded everything: what they have, and how they end."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from tests.cli.test_cli import PATIENCE, serving
from tests.integration.test_workers import fork_server_of, until_up, workers_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes as Linux shows them"),
]


def run(*, work: str, main: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program whose forked processes do `work` with what they are `told` and a `file`; `main` has the `server`.

    It is a program of its own, since pytest has threads.
    """
    lines = [
        "import asyncio, errno, os, signal",
        "from seed_oauth.server.fork_server import fork_server",
        textwrap.dedent(before),
        "def work(told, file):",
        textwrap.indent(textwrap.dedent(work), "    "),
        "async def main(server):",
        textwrap.indent(textwrap.dedent(main), "    "),
        "with fork_server(work) as server:",
        "    asyncio.run(main(server))",
    ]
    return subprocess.run(  # noqa: S603 - the program above
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_a_process_is_told_something_and_has_the_files_that_it_was_started_with() -> None:
    finished = run(
        work="os.write(file, f'told {told}'.encode())",
        main="""
            reading, writing = os.pipe()
            process = await server.start({"a": 1}, writing)
            print(await process.wait(), os.read(reading, 100).decode())
        """,
    )
    assert (finished.stdout, finished.stderr) == ("0 told {'a': 1}\n", "")


def test_a_process_that_fails_ends_with_status_1_and_says_why_once() -> None:
    finished = run(
        work="raise ValueError(told)",
        main="""
            print("before")
            print(await (await server.start("no use", 0)).wait())
        """,
    )
    assert finished.stdout == "before\n1\n"
    assert finished.stderr.count("Traceback") == 1
    assert finished.stderr.endswith("ValueError: no use\n")


def test_a_process_ends_by_the_signals_that_it_is_sent_even_at_its_very_start() -> None:
    finished = run(
        work="signal.pause()",
        main="""
            for number in (signal.SIGTERM, signal.SIGKILL):
                process = await server.start(None, 0)
                process.send_signal(number)
                print(await process.wait())
                process.send_signal(number)  # to nobody
        """,
    )
    assert (finished.stdout, finished.stderr) == ("-15\n-9\n", "")


def test_where_the_host_has_no_process_left_that_is_an_error_and_the_next_one_can_be_started() -> None:
    """The fork server itself is the first process, which there is."""
    finished = run(
        before="""
            fork, forks = os.fork, iter((True, False, True))
            def fork_while_there_is_room():
                if next(forks):
                    return fork()
                raise BlockingIOError(errno.EAGAIN, "none left")
            os.fork = fork_while_there_is_room
        """,
        work="pass",
        main="""
            try:
                await server.start(None, 0)
            except OSError as failure:
                print(errno.errorcode[failure.errno])
            print(await (await server.start(None, 0)).wait())
        """,
    )
    assert (finished.stdout, finished.stderr) == ("EAGAIN\n0\n", "")


async def test_the_fork_server_and_the_workers_inherit_nothing_but_what_is_theirs(tmp_path: Path) -> None:
    """A descriptor that is open elsewhere keeps a port taken, or the reader of a pipe waiting."""
    reading, writing = os.pipe()
    async with serving(tmp_path, {"SEED_OAUTH_WORKERS": "2"}, pass_fds=[writing]) as server:
        await until_up(server, 2)
        passed_on = str(Path(f"/proc/self/fd/{writing}").readlink())
        assert passed_on in open_files(server.process.pid)
        one, other = (open_files(worker) for worker in workers_of(server))
        assert passed_on not in open_files(fork_server_of(server)) | one | other
        shared = {file for file in one & other if file.startswith(("pipe:", "socket:"))}
        streams = {str(Path(f"/proc/{server.process.pid}/fd/{number}").readlink()) for number in range(3)}
        assert len(shared - streams) == 1  # where both of them listen
    os.close(reading)
    os.close(writing)


def open_files(pid: int) -> set[str]:
    return {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}


async def test_signals_to_the_whole_group_leave_the_fork_server_to_its_supervisor(tmp_path: Path) -> None:
    async with serving(tmp_path, {"SEED_OAUTH_WORKERS": "2"}) as server:
        await until_up(server, 2)
        os.kill(fork_server_of(server), signal.SIGTERM)
        os.kill(fork_server_of(server), signal.SIGINT)
        victim = workers_of(server)[0]
        os.kill(victim, signal.SIGKILL)
        with anyio.fail_after(PATIENCE):
            while victim in workers_of(server) or len(workers_of(server)) < 2:
                await anyio.sleep(0.05)
        await until_up(server, 2)
        log = await server.stop()
    assert server.process.returncode == 0
    assert '"status":-9' in log


async def test_without_the_fork_server_the_supervisor_ends_once_a_worker_is_missing(tmp_path: Path) -> None:
    """The service manager then starts all of them again."""
    async with serving(tmp_path, {"SEED_OAUTH_WORKERS": "2"}) as server:
        await until_up(server, 2)
        workers = workers_of(server)
        os.kill(fork_server_of(server), signal.SIGKILL)
        assert (await server.http.get(f"{server.url}/healthz")).status_code == 200
        os.kill(workers[0], signal.SIGKILL)
        with anyio.fail_after(PATIENCE):
            await server.process.communicate()
            while any(is_running(worker) for worker in workers):
                await anyio.sleep(0.05)
    assert server.process.returncode == 1


async def test_the_fork_server_ends_with_its_supervisor(tmp_path: Path) -> None:
    async with serving(tmp_path, {"SEED_OAUTH_WORKERS": "2"}) as server:
        await until_up(server, 2)
        everybody = [fork_server_of(server), *workers_of(server)]
        server.process.kill()
        with anyio.fail_after(PATIENCE):
            await server.process.communicate()
            while any(is_running(process) for process in everybody):
                await anyio.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
