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
    passed = socket.socket(fileno=_FIRST_DESCRIPTOR)
    if os.environ.get("LISTEN_FDS") != "1" or passed.family not in {socket.AF_INET, socket.AF_INET6}:
        raise SettingsError("the socket unit must have one ListenStream= with an address and a port, and no other")
    passed.set_inheritable(False)
    passed.setblocking(False)
    return passed
