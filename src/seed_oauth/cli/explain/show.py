"""The story of a login for people, and as JSON."""

import json
from dataclasses import asdict
from datetime import datetime

from rich.console import Console

from seed_oauth.cli.explain.story import Step, Story
from seed_oauth.cli.stored import harmless


def show(story: Story, console: Console) -> None:
    """Print it: a line for each step, then where it ended and who has to act."""
    for name, value in {"flow_id": story.flow_id, "client_id": story.client_id}.items():
        if value is not None:
            _print(console, f"{name}  {value}")
    console.print()
    for step in story.steps:
        _print(console, _line(step, story), style="red" if step.failed else None)
    console.print()
    _print(console, story.ending, style="bold")
    if story.who is not None:
        _print(console, f"Who has to act: {story.who}")
    if story.remedy is not None:
        _print(console, f"Often the cause: {story.remedy.cause}")
        _print(console, f"What helps: {story.remedy.remedy}")
    if story.heading is not None:
        _print(console, f"In the documentation: When a login fails, {story.heading}")


def as_json(story: Story) -> str:
    """The members of `Story`; times are in ISO 8601. It is ASCII, because other programs may have written the log."""
    remedy = None if story.remedy is None else story.remedy._asdict()
    text = json.dumps({**asdict(story), "remedy": remedy}, indent=2, default=datetime.isoformat)
    return text.replace("\x7f", "\\u007f")


def _line(step: Step, story: Story) -> str:
    after = (step.at - story.steps[0].at).total_seconds()
    when = f"{step.at:%Y-%m-%d %H:%M:%S}" if step is story.steps[0] else f"{f'+{after:.1f} s':>19}"
    times = f" ({step.times} times)" if step.times > 1 else ""
    return f"{when}  {'✗' if step.failed else '✓'} {step.text}{times}"


def _print(console: Console, text: str, style: str | None = None) -> None:
    # The terminal wraps long lines, and a pipe gets them whole.
    console.print(harmless(text), style=style, soft_wrap=True)
