"""Forks worker processes from one that has loaded everything and started nothing.

A forked process need not load the modules again, and shares their memory for as long as it does not write to it. The
supervisor cannot fork: a fork copies one thread alone, and the event loop and the connections as they are. So another
process, the fork server, branches off before the supervisor has any of these. It starts none of its own, so a worker
that is started later is forked from the same state as the first one.

The fork server waits for a process only when it is asked to. Until then its id belongs to no other process, so the
supervisor can send signals to it.
"""

import asyncio
import errno
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from seed_oauth.server.process_limits import relax_garbage_collection

Work = Callable[..., None]
"""What a process does: with the object that it was told, and its file descriptors."""

_FORK = b"fork"
_MOST_FILES = 8
_LONGEST_MESSAGE = 32  # bytes: `fork`, or a number
_FIRST_FILE = 3  # after standard input, output and error


class ForkedProcess:
    """A process that the fork server has started."""

    def __init__(self, fork_server: "ForkServer", pid: int, lifeline: socket.socket) -> None:
        """The process has the other end of `lifeline` open until it ends."""
        self._fork_server = fork_server
        self._pid = pid
        self._lifeline = lifeline
        self._has_ended = False

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self._has_ended:
            os.kill(self._pid, number)

    async def wait(self) -> int:
        """Its exit status, once it has ended; the negative number of a signal that ended it."""
        with self._lifeline, suppress(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(self._lifeline, 1)
        self._has_ended = True
        return await self._fork_server.status(self._pid)


class ForkServer:
    """The supervisor's end of the connection to the fork server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()

    async def start(self, told: object, *files: int) -> ForkedProcess:
        """Start a process. It is told an object that can be pickled, and inherits no other file descriptors.

        Raises:
            OSError: this host has no process or file descriptor left.
            RuntimeError: the fork server has ended.
        """
        lifeline, of_the_process = socket.socketpair()
        lifeline.setblocking(False)
        try:
            with of_the_process:
                pid = await self._fork(of_the_process.fileno(), *files)
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended already
                await asyncio.get_running_loop().sock_sendall(lifeline, pickle.dumps(told))
                lifeline.shutdown(socket.SHUT_WR)
        except BaseException:
            lifeline.close()
            raise
        return ForkedProcess(self, pid, lifeline)

    async def status(self, pid: int) -> int:
        """The exit status of a process that has ended.

        Raises:
            RuntimeError: the fork server has ended.
        """
        return await self._ask(str(pid).encode())

    async def _fork(self, *files: int) -> int:
        answer = await self._ask(_FORK, *files)
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return answer

    async def _ask(self, question: bytes, *files: int) -> int:
        answer = b""
        async with self._one_at_a_time:
            with suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._connection, [question], files)
                answer = await asyncio.get_running_loop().sock_recv(self._connection, _LONGEST_MESSAGE)
        if not answer:
            raise RuntimeError("the fork server has ended: no worker can be started any more")
        return int(answer)


@contextmanager
def fork_server(work: Work) -> Iterator[ForkServer]:
    """A fork server until the end of the block, whose processes do `work`.

    Call it when the modules are loaded, and before there is a thread, an event loop or a connection.
    """
    relax_garbage_collection()
    sys.stdout.flush()  # what is still in the buffer would be written twice
    connection, of_the_server = socket.socketpair()
    pid = os.fork()
    if not pid:
        _run(lambda: _serve(of_the_server, work))
    of_the_server.close()
    connection.setblocking(False)
    try:
        with connection:
            yield ForkServer(connection)
    finally:
        os.waitpid(pid, 0)


def _serve(connection: socket.socket, work: Work) -> None:
    """Answer the supervisor until it has ended."""
    # Ctrl-C and the end of the terminal's session are for the supervisor, which passes signals on.
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # so is the reload that it asks for
    # They wait until a worker that inherits this has its own handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    _close_others(connection.fileno())
    while True:
        question, files, _, _ = socket.recv_fds(connection, _LONGEST_MESSAGE, _MOST_FILES)
        if not question:
            return
        answer = _fork(connection, work, files) if question == _FORK else _wait(int(question))
        connection.sendall(str(answer).encode())


def _fork(connection: socket.socket, work: Work, files: list[int]) -> int:
    """The id of a new process that has these files, or the negative number of the error."""
    try:
        pid = os.fork()
    except OSError as failure:
        pid = -(failure.errno or errno.EAGAIN)
    if not pid:
        connection.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        _run(lambda: _work(work, *files))
    for file in files:
        os.close(file)
    return pid


def _work(work: Work, lifeline: int, *files: int) -> None:
    for file in (lifeline, *files):
        os.set_inheritable(file, False)
    with open(lifeline, "rb", closefd=False) as connection:  # open until the process has ended
        told = pickle.load(connection)  # noqa: S301 - the supervisor wrote it
    work(told, *files)


def _wait(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _run(work: Callable[[], None]) -> NoReturn:
    """Do `work` and end the process: what its parent was about to do is not for it."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - as the interpreter does with the main program
        sys.excepthook(*sys.exc_info())
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _close_others(connection: int) -> None:
    """Close what the supervisor has inherited, such as the socket of systemd."""
    for file in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if file >= _FIRST_FILE and file != connection:
            with suppress(OSError):  # the one that listed them
                os.close(file)
