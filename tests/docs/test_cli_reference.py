"""docs/reference/cli.md is generated from the commands and their help."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from seed_oauth.cli.main import app
from tests.docs.pages import DOCS, code, expect, table

INTRODUCTION = """\
# Command line

This page is generated from the commands and their help.

Every [setting](settings.md) can be given as an environment variable. Where a command has an option for a setting, the
option takes precedence.
"""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The commands that do something, by their full names."""
    for part, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {part}")
    if not hasattr(command, "commands"):
        yield name, command


def section(name: str, command: Any) -> str:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    usage = [name, *(shown(argument) for argument in arguments), *["[OPTIONS]"][: len(parameters) > len(arguments)]]
    parts = [f"## {code(name)}", " ".join(command.help.split()), f"```text\n{' '.join(usage)}\n```"]
    if parameters:
        rows = [(code(names(one)), default(one), one.help or "-") for one in parameters]
        parts.append(table(("option or argument", "default", "meaning"), *rows).rstrip())
    return "\n\n".join(parts) + "\n"


def shown(argument: Any) -> str:
    name = str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def names(parameter: Any) -> str:
    return shown(parameter) if parameter.param_type_name == "argument" else ", ".join(parameter.opts)


def default(parameter: Any) -> str:
    flag = isinstance(parameter.default, bool)
    return "-" if parameter.required or flag or parameter.default in (None, "") else code(parameter.default)


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    sections = [section(name, command) for name, command in commands(get_command(app), "seed-oauth")]
    expect(DOCS / "reference/cli.md", "\n".join([INTRODUCTION, *sections]))
