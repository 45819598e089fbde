"""The states of what a client sends on a connection, and the events that change them."""

from collections.abc import Mapping
from typing import Literal

State = Literal["idle", "head", "body", "deaf"]
"""`idle`: the next request has not begun. `head`: its request line or header fields are incomplete. `body`: its body is
incomplete. `deaf`: whatever else the client sends is ignored."""

Event = Literal["data", "head complete", "message complete", "refused"]

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    "idle": {
        "data": "head",
        "head complete": "body",  # of a pipelined request, which came with the end of the one before
        "refused": "deaf",
    },
    "head": {
        "data": "head",
        "head complete": "body",
        "refused": "deaf",
    },
    "body": {
        "data": "body",
        "message complete": "idle",
        "refused": "deaf",
    },
    "deaf": {
        "data": "deaf",
        "head complete": "deaf",
        "message complete": "deaf",
        "refused": "deaf",
    },
}
"""The next state, by the current one and what happens. Nothing else can happen."""
