"""What the default run leaves out: long runs, and tests that need more than Python. CI runs everything."""

import os
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.real_parts import PARTS, look_for, parts_of

CI = os.environ.get("CI") == "true"


class LeftOut:
    """A plugin that deselects by the marks `slow` and `real_parts`, and reports how many tests and why.

    Whoever names files, or selects by marks, gets all that they asked for.
    """

    def __init__(self) -> None:
        self.reasons = Counter[str]()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        share_servers(items)
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # no worker is to begin a long one last
        if CI or config.option.markexpr or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
            return
        chosen, left_out = [], []
        for item in items:
            if reasons := parts_of(item) or [mark.name for mark in item.iter_markers("slow")]:
                self.reasons.update(reasons)
                left_out.append(item)
            else:
                chosen.append(item)
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # A worker of xdist collects, and the process that started it reports.
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["left_out"] = dict(self.reasons)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        # Each worker has collected, and left out, the same.
        self.reasons = Counter(getattr(node, "workeroutput", {}).get("left_out"))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.reasons:
            terminalreporter.section("left out")
            terminalreporter.write_line("Name files, or set CI=true, to run them too.")
        for reason, count in sorted(self.reasons.items()):
            how = f"need {reason}: {PARTS[reason].install}" if reason in PARTS else "are long runs"
            terminalreporter.write_line(f"{count:4} tests {how}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if reason := look_for(parts_of(item)):
            (pytest.fail if CI else pytest.skip)(reason)


def share_servers(items: Iterable[pytest.Item]) -> None:
    """Have one worker run all tests that share a server: those of Keycloak, and those of a file with real parts."""
    for item in items:
        parts = parts_of(item)
        if parts:
            item.add_marker(pytest.mark.xdist_group("keycloak" if "keycloak" in parts else item.path.name))
