"""What the commands share that show and change what is in the store."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seed_oauth.access.audit import Event
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.revocations import Revocations
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.store_url import SQLITE, is_redis, shown
from seed_oauth.storage.open import Stores, open_stores
from seed_oauth.telemetry.audit import AuditTrail

_UNLIMITED = 10_000  # columns

_DAY = 86_400  # seconds

Result = TypeVar("Result")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many are on a page.")]
Page = Annotated[int, typer.Option(min=1, help="Number of the page.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before.")]


def ask(question: Callable[[Stores], Coroutine[Any, Any, Result]]) -> Result:
    """Query the store."""
    settings = Settings.load()
    where = shown(settings.store_url)
    # Opening a missing database would create an empty one.
    if not is_redis(settings.store_url) and not Path(settings.store_url.removeprefix(SQLITE)).exists():
        fail(f"there is no store at {where}: set {PREFIX}STORE_URL to the value that the server has")

    async def answer() -> Result:
        stores = open_stores(settings)
        try:
            return await question(stores)
        finally:
            await stores.aclose()

    try:
        return asyncio.run(answer())
    except StoreError as failure:
        fail(f"the store at {where} cannot be read or written: {failure}")


def grant_revocation(stores: Stores, revocations: Revocations | None = None) -> GrantRevocation:
    """What revokes grants in these stores."""
    lifetime = Settings.load().refresh_token_days * _DAY
    return GrantRevocation(stores.grants, revocations or Revocations(stores.revocations), time, lifetime=lifetime)


@contextmanager
def auditing() -> Iterator[Callable[[Event, Mapping[str, object]], None]]:
    """What records in the audit trail what the operator has done; it is opened before anything is changed.

    Raises:
        SettingsError: the trail cannot be written.
    """
    settings = Settings.load()
    sealer = Sealer([key.get_secret_value() for key in settings.secret_keys], settings.issuer)
    trail = AuditTrail(settings, sealer.pseudonym, lambda _: None, of_a_command=True)
    yield trail.record_command
    asyncio.run(trail.aclose())


def confirm(question: str) -> None:
    """Ask before something is revoked; the command ends here unless the answer is yes."""
    try:
        typer.confirm(question, abort=True)
    except typer.Abort:
        fail("nothing is revoked: answer y, or add --yes")


def date(seconds: int | None) -> str:
    """A day in UTC."""
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def harmless(text: str) -> Text:
    """Text from a client without control characters, bidirectional overrides or markup."""
    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text))


def table_of(*columns: str) -> Table:
    """A table without rows."""
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def range_of(offset: int, shown: int, total: int, what: str, page: int) -> str:
    """Which part of a list a page shows."""
    last = offset + shown
    more = f"; --page {page + 1} shows more" if shown and last < total else ""
    return f"{f'{offset + 1} to {last}' if shown else 'none'} of {total} {what}{more}"


def show_text(content: object) -> None:
    """Print text or a table."""
    # A file or a program reads lines, not columns.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNLIMITED
    console = Console(highlight=False, markup=False, width=width)
    if isinstance(content, Table):
        # Neither wrapped nor truncated, because it is meant to be copied.
        first = content.columns[0]
        first.no_wrap, first.min_width = True, max(console.measure(cell).maximum for cell in first.cells)
    console.print(content)


def print_json(content: Mapping[str, object]) -> None:
    """Print one JSON object."""
    # json.dumps escapes everything beyond ASCII, so it is harmless on a terminal too.
    typer.echo(json.dumps(content))


def fail(message: str) -> NoReturn:
    """End the command with an error."""
    typer.echo(f"seed-oauth: {message}", err=True)
    raise typer.Exit(1)
