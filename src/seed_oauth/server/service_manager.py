"""systemd: what it is told of this process, and the socket that it passes on. Without systemd, nothing happens."""

import os
import socket
from contextlib import suppress

from seed_oauth.settings import SettingsError

VARIABLES = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
"""The environment variables of this protocol, which are for the main process alone."""

_FIRST_DESCRIPTOR = 3


def notify(state: str) -> None:
    """Send a state such as `READY=1` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        address = f"\0{address[1:]}"  # an abstract socket (unix(7))
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, suppress(OSError):
            manager.sendto(state.encode(), address)


def passed_socket() -> socket.socket | None:
    """The listening socket of a socket unit (sd_listen_fds(3)).

    Raises:
        SettingsError: it is not the one TCP socket that can be used.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    try:
        passed = socket.socket(fileno=_FIRST_DESCRIPTOR)
        usable = os.environ.get("LISTEN_FDS") == "1" and _listens_for_tcp(passed)
    except OSError:  # a FIFO or a file
        usable = False
    if not usable:
        raise SettingsError("the socket unit must have one ListenStream= with an address and a port, and no other")
    passed.set_inheritable(False)
    passed.setblocking(False)
    return passed


def _listens_for_tcp(passed: socket.socket) -> bool:
    # With Accept=yes, it is a connection.
    is_tcp = passed.family in {socket.AF_INET, socket.AF_INET6} and passed.type == socket.SOCK_STREAM
    return is_tcp and bool(passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
