"""`seed-oauth clients`: list, show and revoke registered clients."""

import json
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from seed_oauth.access.audit import Event
from seed_oauth.cli.options import ConfigFile
from seed_oauth.cli.stored import (
    AsJson,
    Limit,
    Page,
    Yes,
    ask,
    auditing,
    confirm,
    date,
    fail,
    grant_revocation,
    harmless,
    print_json,
    range_of,
    show_text,
    table_of,
)
from seed_oauth.clients import StoredClient
from seed_oauth.flows.grants import Selection
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.storage.open import Stores

app = typer.Typer(
    help=f"List, show and revoke the registered clients in the store of {PREFIX}STORE_URL.",
    no_args_is_help=True,
)

ClientId = Annotated[str, typer.Argument(help="The client_id, as shown by `list`.", show_default=False)]


@app.command("list")
def list_clients(
    *,
    search: Annotated[str, typer.Option(help="Only clients with this text in their name.")] = "",
    limit: Limit = 50,
    page: Page = 1,
    as_json: AsJson = False,
    _config: ConfigFile = None,
) -> None:
    """List clients, most recently used or registered first."""
    offset = (page - 1) * limit
    found = ask(lambda stores: stores.clients.search(search, offset=offset, limit=limit))
    shown = [_members(stored) for stored in found.clients]
    if as_json:
        print_json({"total": found.total, "clients": shown})
        return
    table = table_of("client_id", "name", "method", "redirects to", "registered", "last used")
    for client in shown:
        hosts = ", ".join(dict.fromkeys(map(_destination, client["redirect_uris"])))
        method = client["token_endpoint_auth_method"]
        dates = date(client["client_id_issued_at"]), date(client["last_used_at"])
        table.add_row(*map(harmless, (client["client_id"], client.get("client_name", ""), method, hosts, *dates)))
    if shown:
        show_text(table)
    show_text(range_of(offset, len(shown), found.total, "clients", page))


@app.command()
def show(client_id: ClientId, *, as_json: AsJson = False, _config: ConfigFile = None) -> None:
    """Show the stored data of a client."""
    stored = ask(lambda stores: stores.clients.look_up(client_id))
    if stored is None:
        _not_stored(client_id)
    members = _members(stored)
    if as_json:
        print_json(members)
        return
    table = table_of("member", "value")
    for name, value in members.items():
        text = date(value) if name in {"client_id_issued_at", "last_used_at"} else value
        table.add_row(name, harmless(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)))
    show_text(table)


@app.command()
def revoke(
    client_id: ClientId,
    *,
    yes: Yes = False,
    _config: ConfigFile = None,
) -> None:
    """Revoke a client and its tokens. It has to register again, and its users have to log in again."""
    stored = ask(lambda stores: stores.clients.look_up(client_id))
    if stored is None:
        _not_stored(client_id)
    if not yes:
        name = harmless(str(stored.client.metadata.get("client_name", "without a name")))
        show_text(Text.assemble("Client ", client_id, ", ", name, ", registered ", date(stored.client.issued_at)))
        confirm("Revoke it?")

    async def remove(stores: Stores) -> bool:
        # Before the client is gone, so that this can be repeated if it fails.
        revocations = Revocations(stores.revocations)
        await revocations.revoke(Revoked.CLIENT, client_id)
        await grant_revocation(stores, revocations).revoke(Selection(client_id=client_id))
        return await stores.clients.remove(client_id)

    with auditing() as record:
        if not ask(remove):
            _not_stored(client_id)
        called = stored.client.metadata.get("client_name")
        record(Event.CLIENT_REVOKED, {"client_id": client_id, "client_name": called})
    show_text(
        "The client is revoked. Running servers refuse it within five seconds, and the access tokens that they have "
        "issued to it within one. Access tokens that the identity provider issued before remain valid at other servers."
    )


def _not_stored(client_id: str) -> NoReturn:
    if any(client.client_id == client_id for client in Settings.load().clients):
        fail(f"this client is not in the store but in {PREFIX}CLIENTS: change it there and restart the server")
    if client_id.startswith("https://"):
        fail(
            "this client is not in the store: its client_id is the URL of a Client ID Metadata Document. "
            f"{PREFIX}CLIENT_ID_METADATA_DOCUMENTS=false refuses all such clients"
        )
    fail("no client with this client_id is registered, or it has expired")


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
