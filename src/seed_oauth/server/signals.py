"""Signals, and the event loop that they end."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

if sys.platform == "win32":  # which uvloop is not for
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

Result = TypeVar("Result")


STOP = (signal.SIGINT, signal.SIGTERM)
RELOAD = () if sys.platform == "win32" else (signal.SIGHUP,)


@contextmanager
def on_signals(
    handler: Callable[[int, FrameType | None], object], numbers: Collection[signal.Signals] = STOP
) -> Iterator[None]:
    """Handle these signals with `handler` inside the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def end_at_once(number: int) -> NoReturn:
    """End this process with the status of a signal, also as process 1 of a container, which ignores signals."""
    os._exit(128 + number)


def end_beside_threads() -> None:
    """End this process at once if a thread still pushes to a Collector that does not answer.

    Python stops such threads wherever they are while it frees what they use: in OpenSSL that is a crash.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in an event loop of its own, from uvloop if it is available."""
    # Shells start background jobs with SIGINT ignored, but it must still stop this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # SIGTERM does the same as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
