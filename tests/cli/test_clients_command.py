"""`seed-oauth clients`: registered clients are listed, shown and revoked."""

import asyncio
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from seed_oauth.cli.main import app
from seed_oauth.clients import Client, hash_secret
from seed_oauth.settings import Settings
from seed_oauth.storage.open import open_stores
from tests.cli.test_cli import COMMAND, free_port
from tests.harness import CALLBACK

CURSOR = Client(
    client_id="Jy6mvNnVQ8jLzZ1xGm3cYw",
    issued_at=1_700_000_000,
    redirect_uris=("cursor://anysphere.cursor-mcp/oauth/callback", CALLBACK, "http://localhost:8787/callback"),
    token_endpoint_auth_method="client_secret_post",
    secret_hash=hash_secret("secret"),
    metadata={"client_name": "Cursor", "contacts": ["me@app.example"]},
)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the store."""
    in_file = request.param == "sqlite"
    url: str = f"sqlite:///{tmp_path}/clients.db" if in_file else request.getfixturevalue("empty_redis").url
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", url)
    return url


def keep(url: str, *clients: Client, used: bool = False) -> None:
    async def add() -> None:
        stores = open_stores(Settings(store_url=url))
        await stores.clients.check()
        for client in clients:
            await stores.clients.add(client)
            if used:
                await stores.clients.mark_used(client.client_id)
        await stores.aclose()

    asyncio.run(add())


def run(*arguments: str, width: int = 200, answer: str = "") -> Result:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(app, ["clients", *arguments], input=answer)


def printed(*arguments: str, width: int = 200) -> str:
    done = run(*arguments, width=width)
    assert done.exit_code == 0, done.output
    return done.stdout


def as_json(*arguments: str) -> Any:
    return json.loads(printed(*arguments, "--json"))


def test_the_list_shows_what_distinguishes_clients(url: str) -> None:
    keep(url, CURSOR)
    head, row, footer = printed("list").splitlines()
    assert head.split("  ")[0] == "client_id"
    for text in (
        CURSOR.client_id,
        "Cursor",
        "client_secret_post",
        "cursor:, app.example, localhost:8787",
        "2023-11-14",
    ):
        assert text in row
    assert footer == "1 to 1 of 1 clients"


def test_an_empty_store_is_listed_as_empty(url: str) -> None:
    keep(url)
    assert printed("list").splitlines() == ["none of 0 clients"]
    assert as_json("list") == {"total": 0, "clients": []}


def test_a_long_list_has_pages_and_can_be_searched(url: str) -> None:
    named = [
        Client(client_id=f"id-{n:03}", issued_at=1, redirect_uris=(CALLBACK,), metadata={"client_name": f"Name {n}"})
        for n in range(120)
    ]
    keep(url, *named)
    assert printed("list").splitlines()[-1] == "1 to 50 of 120 clients; --page 2 shows more"
    assert printed("list", "--page", "3").splitlines()[-1] == "101 to 120 of 120 clients"
    assert printed("list", "--page", "9").splitlines()[-1] == "none of 120 clients"
    seen = [client["client_id"] for page in "123" for client in as_json("list", "--page", page)["clients"]]
    assert sorted(seen) == [client.client_id for client in named]
    found = as_json("list", "--search", "name 11")
    assert (found["total"], len(found["clients"])) == (11, 11)
    assert printed("list", "--search", "name 11", "--limit", "5").splitlines()[-1].startswith("1 to 5 of 11 clients")


@pytest.mark.parametrize("width", [30, 60, 80])
def test_a_client_id_is_shown_in_one_piece_on_a_narrow_terminal(url: str, width: int) -> None:
    named = replace(CURSOR, metadata={"client_name": "A name of many words that does not fit"})
    keep(url, named)
    assert CURSOR.client_id in [line.split(" ")[0] for line in printed("list", width=width).splitlines()]


def test_a_file_or_a_program_gets_one_line_for_each_client(url: str) -> None:
    keep(url, replace(CURSOR, metadata={"client_name": "A name of many words " * 10}))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [COMMAND, "clients", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert len(done.stdout.splitlines()) == 3


def test_a_client_is_shown_without_its_secret(url: str) -> None:
    keep(url, CURSOR, used=True)
    shown = printed("show", CURSOR.client_id)
    for text in ("Cursor", "me@app.example", *CURSOR.redirect_uris, "2023-11-14"):
        assert text in shown
    members = as_json("show", CURSOR.client_id)
    last_used_at = members.pop("last_used_at")
    assert last_used_at > 1_700_000_000
    assert members == {
        "client_id": CURSOR.client_id,
        "client_name": "Cursor",
        "contacts": ["me@app.example"],
        "redirect_uris": list(CURSOR.redirect_uris),
        "token_endpoint_auth_method": "client_secret_post",
        "client_id_issued_at": 1_700_000_000,
    }


def test_a_client_that_never_got_a_token_was_never_used(url: str) -> None:
    keep(url, CURSOR)
    assert printed("list").splitlines()[1].rstrip().endswith("never")
    assert "never" in printed("show", CURSOR.client_id)
    assert as_json("show", CURSOR.client_id)["last_used_at"] is None


@pytest.mark.parametrize(
    "name",
    [
        "[red]boom[/red] [link=https://evil.example]x[/link]",
        "[/]",
        "\x1b[31mred\x1b[0m",
        "\x9b31m",
        "\u202egnp.exe",
        "a\nb\r\tc",
        "\x07",
    ],
)
def test_a_hostile_name_is_printed_harmlessly(url: str, name: str) -> None:
    """THREATS 10: no markup, escape sequences or bidirectional overrides."""
    keep(url, Client(client_id="a", issued_at=1, redirect_uris=(CALLBACK,), metadata={"client_name": name}))
    for text in (printed("list"), printed("show", "a"), printed("list", "--json"), printed("show", "a", "--json")):
        assert all(character.isprintable() or character == "\n" for character in text)
    if name.startswith("["):
        assert name in printed("list")
    assert as_json("show", "a")["client_name"] == name  # JSON has the original name


def test_a_revoked_client_is_gone(url: str) -> None:
    keep(url, CURSOR)
    assert "revoked" in printed("revoke", CURSOR.client_id, "--yes")
    assert run("show", CURSOR.client_id).exit_code == 1
    again = run("revoke", CURSOR.client_id)
    assert again.exit_code == 1
    assert "no client with this client_id is registered, or it has expired" in again.stderr


def test_a_client_that_an_operator_revokes_is_in_the_audit_trail(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = tmp_path / "audit.jsonl"
    monkeypatch.setenv("SEED_OAUTH_AUDIT_LOG", str(trail))
    keep(url, CURSOR)
    printed("revoke", CURSOR.client_id, "--yes")
    (record,) = (json.loads(line) for line in trail.read_text().splitlines())
    assert (record["event.action"], record["oauth.client.name"]) == ("client_revoked", "Cursor")
    assert record["oauth.client.id"] == CURSOR.client_id


def test_revoke_says_which_client_it_is_and_asks_first(url: str) -> None:
    keep(url, CURSOR)
    for answer in ("n\n", "\n", ""):
        kept = run("revoke", CURSOR.client_id, answer=answer)
        assert kept.exit_code == 1
        assert f"Client {CURSOR.client_id}, Cursor, registered 2023-11-14" in kept.stdout
        assert "nothing is revoked: answer y, or add --yes" in kept.stderr
        assert run("show", CURSOR.client_id).exit_code == 0
    assert run("revoke", CURSOR.client_id, answer="y\n").exit_code == 0
    assert run("show", CURSOR.client_id).exit_code == 1


@pytest.mark.parametrize("command", ["show", "revoke"])
def test_the_error_says_why_a_client_is_not_in_the_store(
    url: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    keep(url)
    clients = [{"client_id": "ours", "redirect_uris": [CALLBACK]}]
    monkeypatch.setenv("SEED_OAUTH_CLIENTS", json.dumps(clients))
    assert "not in the store but in SEED_OAUTH_CLIENTS" in run(command, "ours").stderr
    assert (
        "its client_id is the URL of a Client ID Metadata Document"
        in run(command, "https://app.example/client.json").stderr
    )


@pytest.mark.parametrize("missing", ["sqlite:///nowhere.db", "sqlite:///:memory:"])
def test_a_missing_store_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", missing)
    done = run("list")
    assert done.exit_code == 1
    assert f"there is no store at {missing}: set SEED_OAUTH_STORE_URL" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_store_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", f"sqlite:///{tmp_path}/clients.db")
    (tmp_path / "clients.db").write_bytes(b"x" * 4096)
    done = run("list")
    assert done.exit_code == 1
    assert "cannot be read or written: file is not a database" in done.stderr


def test_an_unreachable_redis_is_a_one_line_error_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """THREATS 12."""
    port = free_port()
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", f"redis://door:hush-hush@127.0.0.1:{port}/0")
    done = run("list")
    assert done.exit_code == 1
    assert f"the store at redis://127.0.0.1:{port}/0 cannot be read or written: Connection refused" in done.stderr
    assert "hush" not in done.output
