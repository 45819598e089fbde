"""The building blocks of the panels: frames with figures in their borders, and columns."""

from collections.abc import Mapping

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seed_oauth.cli.watch.charts import duration, goodness, percent
from seed_oauth.cli.watch.flow import FlowState
from seed_oauth.telemetry.samples import Samples
from seed_oauth.telemetry.series import Series


def rated(
    flow: FlowState, name: str, series: Series, good: Mapping[str, str], body: RenderableType, *, note: str = ""
) -> Panel:
    """A panel with the share of `series` that is `good` in its upper border, and the period in its lower one."""
    head = title(name)
    samples = flow.best_known(series.name)
    share = samples.share(series.name, good)
    if share is None:
        return panel(head, body)
    head.append(f"  {percent(share)}", goodness(share)).append(f" {' '.join(good.values())}", "dim")
    # Less than half a second would be shown as "0 s".
    span = "since start" if samples is flow.since_start else f"last {max(flow.recent_seconds, 1):.0f} s"
    return panel(head, body, note=note + span)


def title(name: str) -> Text:
    # As a span, because a style of the whole text would override those of appended parts.
    return Text().append(name, "bold default")


def panel(head: Text, body: RenderableType, *, note: str = "") -> Panel:
    return Panel(
        body,
        title=head,
        subtitle=Text(note, "dim") if note else None,
        title_align="left",
        subtitle_align="right",
        border_style="bright_black",
        padding=(0, 1),
    )


def columns(*widths: int | None) -> Table:
    """A grid of fixed widths, so that tables are aligned: negative is right-aligned, None takes the rest."""
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    for width in widths:
        if width is None:
            grid.add_column(ratio=1, no_wrap=True)
        else:
            grid.add_column(width=abs(width), justify="right" if width < 0 else "left", no_wrap=True)
    return grid


def quantile(samples: Samples, series: Series, q: float, **labels: str) -> str:
    histogram = samples.histogram(series.name, **labels)
    return duration(histogram.quantile(q), histogram.saturation)


def words(label: str) -> str:
    return label.replace("_", " ")
