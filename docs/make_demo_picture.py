"""Makes `demo.svg`, the picture in the README: the figures of `seed-oauth demo` moving.

Real logins are played, the metrics are watched, and what the terminal shows is drawn frame by frame into one
SVG. It moves by CSS alone and asks for nothing from elsewhere, which is what an <img> on GitHub allows.
"""

import argparse
import io
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import anyio
from rich.color import Color, blend_rgb, parse_rgb_hex
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from seed_oauth.cli.demo.environment import open_environment
from seed_oauth.cli.demo.traffic import Traffic, play_on
from seed_oauth.cli.watch import Watcher
from seed_oauth.settings import Settings
from seed_oauth.telemetry import logs

TITLE = "seed-oauth demo"
PER_SECOND = 6
"""Logins per second: enough that every frame differs."""
COLUMNS = 120
"""Wide enough for the view to shorten nothing."""
HOLD = 3
"""How many frames longer the last one stays."""

CHARACTER, LINE, FONT = 8.4, 20.0, 14
"""Pixels: the width of a column, the height of a row and of its letters. Monospace is 0.6 wide."""
BASELINE = 14.5
PADDING, BAR = 14.0, 38.0
"""Pixels around the text, and of the window's bar above it."""
BLOCK = 17.0
"""Pixels that a full block is high: less than a row, so that a chart does not run into the one above it."""

THEME = TerminalTheme(
    parse_rgb_hex("12171f"),
    parse_rgb_hex("d6dee7"),
    [*map(parse_rgb_hex, ("30363d", "f86058", "3fb950", "e3b341", "58a6ff", "c297ff", "56d4dd", "d6dee7"))],
    [*map(parse_rgb_hex, ("94a0ad", "ff8a80", "6fdd8b", "f2cc60", "79c0ff", "d2a8ff", "7ce3ea", "ffffff"))],
)

BOX = "─│╭╮╰╯"
RISING = "▁▂▃▄▅▆▇█"
"""Blocks by eighths of their height …"""
GROWING = "▏▎▍▌▋▊▉"
"""… and by eighths of their width."""
BLOCKS = RISING + GROWING
# Words a single space apart stay together; a wider gap is position, not text.
PIECES = re.compile(rf"[{BOX}]+|[{BLOCKS}]+|[^\s{BOX}{BLOCKS}]+(?: [^\s{BOX}{BLOCKS}]+)*")


class Piece(NamedTuple):
    """Text of one style within a row: words, or glyphs that are drawn."""

    row: int
    column: int
    text: str
    css: str


Frame = frozenset[Piece]


async def record(frames: int, interval: float, warm_up: float) -> list[Frame]:
    """Play logins for `warm_up` seconds, then take a frame every `interval` seconds."""
    recorded: list[Frame] = []
    async with (
        open_environment(0, 0) as stage,
        Traffic(stage) as traffic,
        Watcher(stage.metrics) as watcher,
        anyio.create_task_group() as group,
    ):
        group.start_soon(play_on, traffic, PER_SECOND)
        started = anyio.current_time()
        while len(recorded) < frames:
            await anyio.sleep(interval)
            # During the warm-up too: a poll is a column of the sparklines.
            await watcher.poll()
            if anyio.current_time() - started >= warm_up:
                recorded.append(taken(watcher))
        group.cancel_scope.cancel()
    return recorded


def taken(watcher: Watcher) -> Frame:
    """What a terminal would show now."""
    console = Console(width=COLUMNS, file=io.StringIO(), force_terminal=True)
    view = watcher.view(title=TITLE, footer="Ctrl-C ends")
    return frozenset(
        piece
        for row, line in enumerate(console.render_lines(view, pad=False))
        for piece in pieces(row, [(segment.text, segment.style or Style()) for segment in line])
    )


def pieces(row: int, line: Sequence[tuple[str, Style]]) -> Iterator[Piece]:
    column = 0
    for text, style in line:
        for match in PIECES.finditer(text):
            yield Piece(row, column + match.start(), match[0], css(style))
        column += len(text)


def css(style: Style) -> str:
    """The style's colour and weight as CSS."""
    colour = (style.color or Color.default()).get_truecolor(THEME)
    if style.dim:
        colour = blend_rgb(colour, THEME.background_color, 0.35)
    return f"color:{colour.hex}{';font-weight:bold' if style.bold else ''}"


def picture(frames: Sequence[Frame], interval: float) -> str:
    """The frames as one SVG. What all of them show is drawn once, below the rest."""
    still = frozenset.intersection(*frames)
    styles = sorted({piece.css for frame in frames for piece in frame})
    rows = 1 + max(piece.row for frame in frames for piece in frame)
    width, height = COLUMNS * CHARACTER + 2 * PADDING, rows * LINE + BAR + PADDING
    return TEMPLATE.format(
        width=f"{width:g}",
        height=f"{height:g}",
        inner_width=f"{width - 1:g}",
        inner_height=f"{height - 1:g}",
        left=f"{PADDING:g}",
        top=f"{BAR:g}",
        title=TITLE,
        frames=len(frames),
        interval=f"{interval:g}",
        font=FONT,
        background=THEME.background_color.hex,
        styles="\n".join(f".s{number}{{{css}}}" for number, css in enumerate(styles)),
        animation=animation(len(frames), interval),
        still=drawn(still, styles),
        moving="\n".join(
            # Where nothing moves, the last frame is the picture.
            f'<g id="frame-{number}" class="frame" visibility="{"visible" if frame is frames[-1] else "hidden"}">\n'
            f"{drawn(frame - still, styles)}\n</g>"
            for number, frame in enumerate(frames, 1)
        ),
    )


def animation(frames: int, interval: float) -> str:
    """CSS that shows one frame after the other, all on one time line so that none overlap and none flicker."""
    steps = frames + HOLD
    rules = [f".frame{{animation:{steps * interval:g}s step-end infinite}}"]
    for number in range(1, frames + 1):
        shown, gone = (f"{100 * at / steps:.4g}%" for at in (number - 1, number))
        before = "" if number == 1 else "0%{visibility:hidden}"
        after = "" if number == frames else f"{gone}{{visibility:hidden}}"
        rules.append(f"#frame-{number}{{animation-name:show-{number}}}")
        rules.append(f"@keyframes show-{number}{{{before}{shown}{{visibility:visible}}{after}}}")
    return "\n".join(rules)


def drawn(frame: Frame, styles: Sequence[str]) -> str:
    """The pieces as SVG: letters as text, the glyphs that most fonts leave gaps between as one path a style."""
    words: list[str] = []
    paths: defaultdict[str, str] = defaultdict(str)
    for piece in sorted(frame):
        name = f"s{styles.index(piece.css)}"
        if piece.text[0] in BOX:
            paths[f"{name} line"] += outline(piece)
        elif piece.text[0] in BLOCKS:
            paths[name] += area(piece)
        else:
            words.append(word(piece, name))
    return "\n".join([*words, *(f'<path class="{name}" d="{path}"/>' for name, path in paths.items())])


def word(piece: Piece, name: str) -> str:
    x, y, length = piece.column * CHARACTER, piece.row * LINE + BASELINE, len(piece.text) * CHARACTER
    # The length holds the columns in place, whatever font there is.
    return f'<text class="{name}" x="{x:g}" y="{y:g}" textLength="{length:g}">{escape(piece.text)}</text>'


def area(piece: Piece) -> str:
    """Blocks as one area: as high as they rise and as wide as they grow."""
    foot = (piece.row + 1) * LINE
    path = f"M{piece.column * CHARACTER:g} {foot:g}"
    for column, glyph in enumerate(piece.text, piece.column):
        rise, growth = RISING.find(glyph) + 1 or 8, GROWING.find(glyph) + 1 or 8
        path += f"V{foot - rise / 8 * BLOCK:g}H{(column + growth / 8) * CHARACTER:g}"
    return f"{path}V{foot:g}z"


def outline(piece: Piece) -> str:
    """Box-drawing glyphs as lines through the middle of their cells, with round corners."""
    path = ""
    for match in re.finditer("─+|.", piece.text):
        left, top = (piece.column + match.start()) * CHARACTER, piece.row * LINE
        right, foot = left + len(match[0]) * CHARACTER, top + LINE
        # Between two rows of pixels a line would be grey and twice as thick.
        x, y = left + CHARACTER / 2, top + LINE / 2 - 0.5
        path += {
            "─": f"M{left:g} {y:g}H{right:g}",
            "│": f"M{x:g} {top:g}V{foot:g}",
            "╭": f"M{x:g} {foot:g}Q{x:g} {y:g} {right:g} {y:g}",
            "╮": f"M{x:g} {foot:g}Q{x:g} {y:g} {left:g} {y:g}",
            "╰": f"M{x:g} {top:g}Q{x:g} {y:g} {right:g} {y:g}",
            "╯": f"M{x:g} {top:g}Q{x:g} {y:g} {left:g} {y:g}",
        }[match[0][0]]
    return path


TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
role="img" aria-labelledby="title desc">
<title id="title">{title}</title>
<desc id="desc">A terminal in which the metrics of an OAuth front door move as logins flow through it: \
authorizations, registrations, logins, token exchanges, errors and the identity provider. \
{frames} frames, {interval} s each.</desc>
<style>
text{{font:{font}px ui-monospace,SFMono-Regular,"SF Mono",Menlo,Consolas,
"DejaVu Sans Mono","Liberation Mono",monospace}}
text,path{{fill:currentColor}}
.line{{fill:none;stroke:currentColor;stroke-opacity:.55}}
{styles}
@media (prefers-reduced-motion:no-preference){{
{animation}
}}
</style>
<rect x=".5" y=".5" width="{inner_width}" height="{inner_height}" rx="10" fill="{background}" stroke="#3d444d"/>
<circle cx="20" cy="19" r="6" fill="#ff5f57"/>
<circle cx="40" cy="19" r="6" fill="#febc2e"/>
<circle cx="60" cy="19" r="6" fill="#28c840"/>
<g transform="translate({left} {top})">
{still}
{moving}
</g>
</svg>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Record seed-oauth demo into an animated SVG.")
    parser.add_argument("--frames", type=int, default=12, help="how many to take (%(default)s)")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds of traffic beforehand (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("demo.svg"), help="(%(default)s)")
    asked = parser.parse_args()
    if asked.frames < 1 or asked.interval <= 0:
        parser.error("there is no picture without a frame and an interval")

    logs.configure(Settings.load(log_level="error"))
    # Logins that are under way when the last frame is taken are cut off, which uvicorn would report.
    logging.disable()
    frames = anyio.run(record, asked.frames, asked.interval, asked.warm_up)
    asked.output.write_text(picture(frames, asked.interval), encoding="utf-8")


if __name__ == "__main__":
    main()
