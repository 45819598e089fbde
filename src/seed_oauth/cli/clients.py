"""`seed-oauth clients`: look at the clients that have registered, and revoke one."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seed_oauth.clients import ClientDirectory, StoredClient
from seed_oauth.errors import StoreError
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.store_url import SQLITE, is_redis, shown
from seed_oauth.storage.open import open_stores

app = typer.Typer(
    help=f"The clients that have registered, in the store of {PREFIX}STORE_URL.",
    no_args_is_help=True,
)

ClientId = Annotated[str, typer.Argument(help="Its client_id, as `list` shows it.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts: JSON instead of a table.")]

Result = TypeVar("Result")


@app.command("list")
def list_clients(
    *,
    search: Annotated[str, typer.Option(help="Only those that have this in their name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at once.")] = 50,
    page: Annotated[int, typer.Option(min=1, help="Which of the pages that `limit` makes.")] = 1,
    as_json: AsJson = False,
) -> None:
    """List clients, those used or registered last first."""
    offset = (page - 1) * limit
    found = _ask(lambda directory: directory.search(search, offset=offset, limit=limit))
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
    """Show all that is known of a client."""
    stored = _ask(lambda directory: directory.look_up(client_id))
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
def revoke(client_id: ClientId) -> None:
    """Forget a client: from now on it has to register again, and its refresh tokens are refused."""
    if not _ask(lambda directory: directory.remove(client_id)):
        _not_stored(client_id)
    _print(
        "The client is revoked; servers that are running know it within five seconds. "
        "Access tokens that it has are good until they expire."
    )


def _ask(question: Callable[[ClientDirectory], Coroutine[Any, Any, Result]]) -> Result:
    """The store's answer."""
    settings = Settings.load()
    where = shown(settings.store_url)
    # To open a database that is not there would make an empty one.
    if not is_redis(settings.store_url) and not Path(settings.store_url.removeprefix(SQLITE)).exists():
        _fail(f"there is no store at {where}: set {PREFIX}STORE_URL as it is where the server runs")

    async def answer() -> Result:
        stores = open_stores(settings)
        try:
            return await question(stores.clients)
        finally:
            await stores.aclose()

    try:
        return asyncio.run(answer())
    except StoreError as failure:
        _fail(f"the store at {where} cannot be read or written: {failure}")


def _not_stored(client_id: str) -> NoReturn:
    if any(client.client_id == client_id for client in Settings.load().clients):
        _fail(f"this client is not in the store but in {PREFIX}CLIENTS: change it there, and restart the server")
    if client_id.startswith("https://"):
        _fail(
            "this client is not in the store: its client_id is the URL of a document, which its publisher keeps. "
            f"{PREFIX}CLIENT_ID_METADATA_DOCUMENTS=false refuses all such clients"
        )
    _fail("no client has registered under this client_id, or it has expired")


def _members(stored: StoredClient) -> dict[str, Any]:
    """A client as RFC 7591 calls its members. Of a secret there is only a hash, which is not shown."""
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
    """What a client calls itself, without the power to move the cursor, write backwards or be taken for markup."""
    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text))


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = "fold"  # a client_id is to be copied whole
    table.columns[0].no_wrap = False
    return table


def _print(content: object) -> None:
    Console(highlight=False, markup=False).print(content)


def _print_json(content: Mapping[str, object]) -> None:
    # ASCII only, so that it is as harmless on a terminal as it is to a script.
    typer.echo(json.dumps(content))


def _fail(message: str) -> NoReturn:
    typer.echo(f"seed-oauth: {message}", err=True)
    raise typer.Exit(1)
