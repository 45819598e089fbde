"""`seed-oauth grants`: list, show and revoke what users have granted to clients."""

import re
from collections.abc import Sequence
from time import time
from typing import Annotated, Any

import typer

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
from seed_oauth.flows.grants import Selection, StoredGrant
from seed_oauth.flows.revoked import hashed
from seed_oauth.settings import PREFIX

app = typer.Typer(
    help=f"List, show and revoke the grants in the store of {PREFIX}STORE_URL: who has access by which client.",
    no_args_is_help=True,
)

_AGE = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}

_SHORT = 12  # characters of a hash that tell users apart

GrantId = Annotated[str, typer.Argument(help="The grant_id, as shown by `list`.", show_default=False)]
Subject = Annotated[
    str | None,
    typer.Option(help="Only grants of this user: the `sub` of the identity provider.", show_default=False),
]
Client = Annotated[str | None, typer.Option(help="Only grants to this client_id.", show_default=False)]
OlderThan = Annotated[
    str | None,
    typer.Option(help="Only grants of logins that were longer ago, such as 30d, 12h or 90m.", show_default=False),
]


@app.command("list")
def list_grants(
    *,
    subject: Subject = None,
    client: Client = None,
    older_than: OlderThan = None,
    limit: Limit = 50,
    page: Page = 1,
    as_json: AsJson = False,
    _config: ConfigFile = None,
) -> None:
    """List grants, most recently used first."""
    every = _search(_selection(subject, client, older_than))
    offset = (page - 1) * limit
    found = every[offset : offset + limit]
    if as_json:
        print_json({"total": len(every), "grants": [*map(_members, found)]})
        return
    table = table_of("grant_id", "user", "client", "client_id", "scope", "granted", "used")
    for grant in found:
        texts = (
            grant.grant_id,
            (grant.subject_hash or "unknown")[:_SHORT],
            grant.client_name or "",
            grant.client_id,
            grant.scope or "",
            date(grant.issued_at),
            date(grant.used_at),
        )
        table.add_row(*map(harmless, texts))
    if found:
        show_text(table)
    show_text(range_of(offset, len(found), len(every), "grants", page))


@app.command()
def show(grant_id: GrantId, *, as_json: AsJson = False, _config: ConfigFile = None) -> None:
    """Show the stored data of a grant."""
    members = _members(_one(grant_id))
    if as_json:
        print_json(members)
        return
    table = table_of("member", "value")
    for name, value in members.items():
        table.add_row(name, harmless(date(value) if isinstance(value, int) else value or ""))
    show_text(table)


@app.command()
def revoke(
    grant_id: Annotated[str | None, typer.Argument(help="Only this grant.", show_default=False)] = None,
    *,
    subject: Subject = None,
    client: Client = None,
    older_than: OlderThan = None,
    all_grants: Annotated[bool, typer.Option("--all", help="Every grant, and every access token.")] = False,
    yes: Yes = False,
    _config: ConfigFile = None,
) -> None:
    """Revoke grants and their tokens. Their users have to log in again."""
    chosen = _selection(subject, client, older_than)._replace(grant_id=grant_id)
    if all_grants == any(one is not None for one in chosen):
        fail("say which grants: a grant_id, --subject, --client, --older-than, or --all alone")
    found = [_one(grant_id)] if grant_id is not None else _search(chosen)
    if not yes:
        users = len({grant.subject_hash for grant in found})
        show_text(f"{_count(len(found))} of {users} users to {len({grant.client_id for grant in found})} clients")
        confirm("Revoke them?")
    with auditing() as record:
        revoked = ask(lambda stores: grant_revocation(stores).revoke(chosen))
        for grant in found:
            record(Event.GRANT_REVOKED, {**grant.facts, "subject": subject})
    show_text(
        f"{_count(revoked)} revoked. Running servers refuse their refresh tokens at once, and their access tokens "
        "within a second. Access tokens that the identity provider issued before remain valid at other servers."
    )


def _selection(subject: str | None, client: str | None, older_than: str | None) -> Selection:
    return Selection(
        subject_hash=None if subject is None else hashed(subject),
        client_id=client,
        issued_before=None if older_than is None else time() - _age(older_than),
    )


def _age(text: str) -> int:
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter("must be a number of days, hours or minutes, such as 30d, 12h or 90m")
    return int(found[1]) * _SECONDS[found[2]]


def _search(chosen: Selection) -> Sequence[StoredGrant]:
    return ask(lambda stores: stores.grants.search(chosen, now=time()))


def _one(grant_id: str) -> StoredGrant:
    found = _search(Selection(grant_id=grant_id))
    if not found:
        fail("there is no grant with this grant_id, or it is revoked or has expired")
    return found[0]


def _members(grant: StoredGrant) -> dict[str, Any]:
    return {name: value for name, value in grant._asdict().items() if name not in {"session_hash", "token_hash"}}


def _count(number: int) -> str:
    return f"{number} grant{'' if number == 1 else 's'}"
