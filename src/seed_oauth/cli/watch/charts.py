"""Numbers as short text, and the charts of the view: sparklines and bars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

NOTHING = "\N{EN DASH}"
LEVELS = "▂▃▄▅▆▇█"
BASELINE = "▁"
EIGHTHS = " ▏▎▍▌▋▊▉"

ASCII = str.maketrans(
    dict(zip(LEVELS, "..::|||", strict=True))
    | dict.fromkeys(EIGHTHS[1:], "=")
    | {
        BASELINE: "_",
        "█": "#",
        NOTHING: "-",
        "·": "|",
        "●": "*",
        "○": "o",
        "✖": "x",
        "≤": "<",
        "≥": ">",
        "…": ".",
    }
)
"""The ASCII replacement of each glyph, for terminals without Unicode."""


def per_second(rate: float | None) -> str:
    """A rate such as `1.25/s`, in at most seven columns; a low one is not rounded to 0."""
    if rate is None:
        return NOTHING
    if 0 < rate < 0.01:  # noqa: PLR2004 - the smallest rate with two decimals
        return "<0.01/s"
    if rate >= 10_000:  # noqa: PLR2004 - the largest rate that fits
        return f"{rate / 1000:.3g}k/s"
    return f"{rate:.2f}/s" if 0 < rate < 10 else f"{rate:,.0f}/s"  # noqa: PLR2004 - three digits are enough


def count(value: float) -> str:
    """A count such as `12,345`, or `1.234 M` from a million on."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:,.0f}"


def percent(share: float | None) -> str:
    """A share such as `97.5 %`, rounded down, so that `100 %` means all."""
    if share is None:
        return NOTHING
    # 0.57 * 1000 is a little less than 570 in floating point.
    return "100 %" if share >= 1 else f"{math.floor(share * 1000 + 1e-9) / 10:.1f} %"


def duration(seconds: float | None, saturation: float | None = None) -> str:
    """A latency; at `saturation`, the last bucket bound, it is shown as `≥ 5 s`."""
    if seconds is None:
        return NOTHING
    if seconds == saturation:
        return f"≥ {seconds:g} s"
    if seconds < 0.9995:  # noqa: PLR2004 - more would be rounded to 1000 ms
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - three digits are enough


def goodness(share: float | None) -> str:
    """The style of a success ratio."""
    if share is None:
        return "dim"
    return "green" if share >= 0.95 else "yellow" if share >= 0.8 else "red"  # noqa: PLR2004 - a traffic light


@dataclass(frozen=True)
class Sparkline:
    """The latest values that fit, one column each, the latest at the right; `ceiling` is a full column."""

    values: Sequence[float]
    ceiling: float
    styles: Sequence[str]
    """The style of each value."""

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        shown = list(zip(self.values, self.styles, strict=True))[-width:]
        line = Text(" " * (width - len(shown)), no_wrap=True)
        for value, style in shown:
            line.append(self._glyph(value), style if value else "bright_black")
        yield line

    def _glyph(self, value: float) -> str:
        if not value:
            return BASELINE
        level = math.ceil(value / self.ceiling * len(LEVELS))
        return LEVELS[min(max(level, 1), len(LEVELS)) - 1]


@dataclass(frozen=True)
class Bar:
    """A horizontal bar over `share` of the available width, in eighths of a column."""

    share: float
    style: str

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        # A share above 0 is always visible.
        eighths = max(round(self.share * options.max_width * 8), 1 if self.share else 0)
        full, rest = divmod(eighths, 8)
        text = "█" * full + (EIGHTHS[rest] if rest else "")
        yield Segment(text.ljust(options.max_width), Style.parse(self.style))
