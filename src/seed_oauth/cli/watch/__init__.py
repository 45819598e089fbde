"""The OAuth flow of any running instance, seen in a terminal: from its metrics alone, without Grafana.

Import this only where it is shown: it needs rich, and the other commands start faster without.
"""

from seed_oauth.cli.watch.exposition import Snapshot, WatchError, parse
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.view import render
from seed_oauth.cli.watch.watcher import Watcher, display, watch

__all__ = ["FlowState", "Snapshot", "WatchError", "Watcher", "display", "parse", "render", "watch"]
