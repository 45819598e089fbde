"""`seed-oauth watch`: the logins of a running instance in a terminal, from its metrics, without Grafana.

Import it only when needed: it imports rich, and other commands start faster without.
"""

from seed_oauth.cli.watch.exposition import Snapshot, WatchError, parse
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.view import render
from seed_oauth.cli.watch.watcher import Watcher, display, watch

__all__ = ["FlowState", "Snapshot", "WatchError", "Watcher", "display", "parse", "render", "watch"]
