"""`seed-oauth clients`: list, show and revoke registered clients."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seed_oauth.clients import StoredClient
from seed_oauth.flows.revocations import Revocations, Revoked
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.store_url import SQLITE, is_redis, shown
from seed_oauth.storage.open import Stores, open_stores

app = typer.Typer(
    help=f"List, show and revoke the registered clients in the store of {PREFIX}STORE_URL.",
    no_args_is_help=True,
)

ClientId = Annotated[str, typer.Argument(help="The client_id, as shown by `list`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_UNLIMITED = 10_000  # columns

Result = TypeVar("Result")


@app.command("list")
def list_clients(
    *,
    search: Annotated[str, typer.Option(help="Only clients with this text in their name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Clients per page.")] = 50,
    page: Annotated[int, typer.Option(min=1, help="Number of the page.")] = 1,
    as_json: AsJson = False,
) -> None:
    """List clients, most recently used or registered first."""
    offset = (page - 1) * limit
    found = _ask(lambda stores: stores.clients.search(search, offset=offset, limit=limit))
    shown = [_members(stored) for stored in found.clients]
    if as_json:
        _print_json({"total": found.total, "clients": shown})
        return
    table = _table("client_id", "name", "method", "redirects to", "registered", "last used")
    for client in shown:
        hosts = ", ".join(dict.fromkeys(map(_destination, client["redirect_uris"])))
        method = client["token_endpoint_auth_method"]
        dates = _date(client["client_id_issued_at"]), _date(client["last_used_at"])
        table.add_row(*map(_harmless, (client["client_id"], client.get("client_name", ""), method, hosts, *dates)))
    if shown:
        _print(table)
    last = offset + len(shown)
    more = f"; --page {page + 1} shows more" if shown and last < found.total else ""
    _print(f"{f'{offset + 1} to {last}' if shown else 'none'} of {found.total} clients{more}")


@app.command()
def show(client_id: ClientId, *, as_json: AsJson = False) -> None:
    """Show the stored data of a client."""
    stored = _ask(lambda stores: stores.clients.look_up(client_id))
    if stored is None:
        _not_stored(client_id)
    members = _members(stored)
    if as_json:
        _print_json(members)
        return
    table = _table("member", "value")
    for name, value in members.items():
        text = _date(value) if name in {"client_id_issued_at", "last_used_at"} else value
        table.add_row(name, _harmless(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)))
    _print(table)


@app.command()
def revoke(
    client_id: ClientId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before.")] = False,
) -> None:
    """Revoke a client and its tokens. It has to register again, and its users have to log in again."""
    stored = _ask(lambda stores: stores.clients.look_up(client_id))
    if stored is None:
        _not_stored(client_id)
    if not yes:
        name = _harmless(str(stored.client.metadata.get("client_name", "without a name")))
        _print(Text.assemble("Client ", client_id, ", ", name, ", registered ", _date(stored.client.issued_at)))
        try:
            typer.confirm("Revoke it?", abort=True)
        except typer.Abort:
            _fail("nothing is revoked: answer y, or add --yes")

    async def remove(stores: Stores) -> bool:
        # Before the client is gone, so that this can be repeated if it fails.
        await Revocations(stores.revocations).revoke(Revoked.CLIENT, client_id)
        return await stores.clients.remove(client_id)

    if not _ask(remove):
        _not_stored(client_id)
    _print(
        "The client is revoked. Running servers refuse it within five seconds, and the access tokens that they have "
        "issued to it within one. Access tokens of the identity provider remain valid until they expire."
    )


def _ask(question: Callable[[Stores], Coroutine[Any, Any, Result]]) -> Result:
    """Query the store."""
    settings = Settings.load()
    where = shown(settings.store_url)
    # Opening a missing database would create an empty one.
    if not is_redis(settings.store_url) and not Path(settings.store_url.removeprefix(SQLITE)).exists():
        _fail(f"there is no store at {where}: set {PREFIX}STORE_URL to the value that the server has")

    async def answer() -> Result:
        stores = open_stores(settings)
        try:
            return await question(stores)
        finally:
            await stores.aclose()

    try:
        return asyncio.run(answer())
    except StoreError as failure:
        _fail(f"the store at {where} cannot be read or written: {failure}")


def _not_stored(client_id: str) -> NoReturn:
    if any(client.client_id == client_id for client in Settings.load().clients):
        _fail(f"this client is not in the store but in {PREFIX}CLIENTS: change it there and restart the server")
    if client_id.startswith("https://"):
        _fail(
            "this client is not in the store: its client_id is the URL of a Client ID Metadata Document. "
            f"{PREFIX}CLIENT_ID_METADATA_DOCUMENTS=false refuses all such clients"
        )
    _fail("no client with this client_id is registered, or it has expired")


def _members(stored: StoredClient) -> dict[str, Any]:
    """A client with the member names of RFC 7591, without the hash of its secret."""
    client = stored.client
    return {
        "client_id": client.client_id,
        **client.metadata,
        "redirect_uris": list(client.redirect_uris),
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
        "client_id_issued_at": client.issued_at,
        "last_used_at": stored.last_used_at,
    }


def _destination(redirect_uri: str) -> str:
    scheme, _, rest = redirect_uri.partition("://")
    return rest.partition("/")[0] if scheme in {"http", "https"} else f"{scheme.partition(':')[0]}:"


def _date(seconds: int | None) -> str:
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _harmless(text: str) -> Text:
    """Text from a client without control characters, bidirectional overrides or markup."""
    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text))


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def _print(content: object) -> None:
    # A file or a program reads lines, not columns.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNLIMITED
    console = Console(highlight=False, markup=False, width=width)
    if isinstance(content, Table):
        # Neither wrapped nor truncated, because it is meant to be copied.
        first = content.columns[0]
        first.no_wrap, first.min_width = True, max(console.measure(cell).maximum for cell in first.cells)
    console.print(content)


def _print_json(content: Mapping[str, object]) -> None:
    # json.dumps escapes everything beyond ASCII, so it is harmless on a terminal too.
    typer.echo(json.dumps(content))


def _fail(message: str) -> NoReturn:
    typer.echo(f"seed-oauth: {message}", err=True)
    raise typer.Exit(1)
