"""The view: renders a `FlowState` for a terminal of any size."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from seed_oauth.cli.watch.charts import ASCII
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.cli.watch.login import login, login_in_short
from seed_oauth.cli.watch.panels import authorization, errors, exchanges, identity_provider, registration

PAIRED = 72
"""Minimum width in columns for authorization and registration side by side."""
WIDE = 110
"""Minimum width in columns for the other panels side by side."""
MOST_ROWS = 8
"""Maximum number of rows of a ranking."""


def render(
    flow: FlowState, *, title: str = "seed-oauth", footer: RenderableType | None = None, trouble: str | None = None
) -> "View":
    """The view of `flow`; `trouble` says why it is not up to date."""
    return View(flow, title, footer, trouble)


@dataclass(frozen=True)
class View:
    """A renderable that shows as much as fits into the width, and into the height if that is limited."""

    flow: FlowState
    title: str
    footer: RenderableType | None
    trouble: str | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room, options = options.height, options.reset_height()
        for line in self._lines(console, options, room):
            for segment in line:
                text = segment.text.translate(ASCII) if options.ascii_only else segment.text
                yield Segment(text, segment.style, segment.control)
            yield Segment.line()

    def _lines(self, console: Console, options: ConsoleOptions, room: int | None) -> list[list[Segment]]:
        def drawn(*parts: RenderableType) -> list[list[Segment]]:
            return console.render_lines(Group(*parts), options, pad=False)

        wide = options.max_width >= WIDE
        above, below = drawn(*self._above(console, options)), drawn(*self._below())
        rows = MOST_ROWS
        # Less and less detail until it fits; the last form is used for any height.
        forms = ((True, True, True, 3), (True, True, False, 3), (True, False, False, 2), (False, False, False, 1))
        for whole_login, both_spans, buckets, least_rows in forms:  # pragma: no branch - rows is never below 1
            middle = drawn(
                login(self.flow) if whole_login else login_in_short(self.flow),
                exchanges(self.flow, wide=wide, both_spans=both_spans, buckets=buckets),
            )
            if room is not None:
                left = room - len(above) - len(middle) - len(below)
                # The two rankings have 4 and 3 lines around their rows.
                rows = max(1, min(MOST_ROWS, left - 4 if wide else (left - 7) // 2))
            if rows >= least_rows:
                break
        panels = errors(self.flow, rows), identity_provider(self.flow, rows)
        rankings = drawn(_side_by_side(console, options, 0.535, *panels)) if wide else drawn(*panels)
        return [*above, *middle, *rankings, *below]

    def _above(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield self._head()
        if self.trouble:
            yield Text(self.trouble, "red")
        elif not self.flow.has_traffic:
            yield Text("No traffic yet. Figures appear with the first request to the front door.", "yellow")
        panels = authorization(self.flow), registration(self.flow)
        if options.max_width >= PAIRED:
            yield _side_by_side(console, options, 0.55, *panels)
        else:
            yield from panels

    def _below(self) -> Iterator[RenderableType]:
        if self.footer is not None:
            # As Text, not markup: a URL may contain [::1].
            yield Text(self.footer, "dim") if isinstance(self.footer, str) else self.footer

    def _head(self) -> Table:
        if self.trouble:
            status = Text("✖ no response", "bold red")
        elif not self.flow.recent_seconds:
            # Rates need two scrapes.
            status = Text("○ first scrape", "dim")
        elif self.flow.is_quiet:
            status = Text("○ idle", "dim")
        else:
            status = Text("● live", "bold green")
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        head.add_row(Text(self.title, "bold cyan"), status)
        return head


def _side_by_side(console: Console, options: ConsoleOptions, share: float, left: Panel, right: Panel) -> Table:
    """Two panels of the same height; the left one has `share` of the width."""
    width = round(options.max_width * share)
    widths = (width, options.max_width - width)
    height = max(
        len(console.render_lines(panel, options.update(width=width)))
        for panel, width in zip((left, right), widths, strict=True)
    )
    left.height = right.height = height
    pair = Table.grid()
    for width in widths:
        pair.add_column(width=width)
    pair.add_row(left, right)
    return pair
