"""`seed-oauth grants`: who has access by which client is listed, shown and taken back."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import time
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from seed_oauth.cli.main import app
from seed_oauth.clients import Client
from seed_oauth.flows.grants import RefreshLease, Selection, StoredGrant
from seed_oauth.flows.revoked import FOR_GOOD, Revocation, hashed
from seed_oauth.settings import Settings, SettingsError
from seed_oauth.storage.open import Stores, open_stores
from tests.harness import CALLBACK

Found = TypeVar("Found")

DAY = 86_400
NOW = int(time())


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the store."""
    in_file = request.param == "sqlite"
    url: str = f"sqlite:///{tmp_path}/store.db" if in_file else request.getfixturevalue("empty_redis").url
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", url)
    return url


def in_store(url: str, work: Callable[[Stores], Coroutine[Any, Any, Found]]) -> Found:
    async def do() -> Found:
        stores = open_stores(Settings(store_url=url))
        try:
            return await work(stores)
        finally:
            await stores.aclose()

    return asyncio.run(do())


def grant(grant_id: str, subject: str | None = "alice", client_id: str = "claude", days: float = 0) -> StoredGrant:
    at = int(NOW - days * DAY)
    user = None if subject is None else hashed(subject)
    return StoredGrant(
        grant_id,
        client_id,
        f"Name of {client_id}",
        "other",
        user,
        None,
        "files:read",
        "https://door.example/mcp",
        at,
        at,
    )


def keep(url: str, *grants: StoredGrant) -> None:
    async def add(stores: Stores) -> None:
        await stores.clients.check()
        for one in grants:
            await stores.grants.add(one, expires_at=NOW + 90 * DAY)

    in_store(url, add)


def listed(url: str) -> set[str]:
    return {one.grant_id for one in in_store(url, lambda stores: stores.grants.search(Selection(), now=NOW))}


def revoked(url: str) -> set[tuple[str, str, bool]]:
    """The revocations in the store: of what, whose, and whether for good."""

    async def read(stores: Stores) -> list[Revocation]:
        return [*await stores.revocations.unread()]

    return {(one.of, one.name, one.before == FOR_GOOD) for one in in_store(url, read)}


def lease_of(url: str, grant_id: str) -> RefreshLease | str:
    return in_store(url, lambda stores: stores.grants.take_lease(grant_id, 0, now=NOW, until=NOW, expires_at=NOW + DAY))


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["grants", *arguments], input=answer)


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_list_says_who_has_access_by_which_client_since_when(url: str) -> None:
    keep(url, grant("a", "alice", days=40), grant("b", None, "cursor"))
    head, b, a, footer = printed("list").splitlines()
    assert head.split()[:3] == ["grant_id", "user", "client"]
    for text in ("a ", hashed("alice")[:12], "Name of claude", "claude", "files:read"):
        assert text in a
    for text in ("b ", "unknown", "Name of cursor", "cursor"):
        assert text in b
    assert footer == "1 to 2 of 2 grants"


def test_an_empty_store_is_listed_as_empty(url: str) -> None:
    keep(url)
    assert printed("list").splitlines() == ["none of 0 grants"]
    assert json.loads(printed("list", "--json")) == {"total": 0, "grants": []}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--subject", "alice"], "ab"),
        (["--subject", "nobody"], ""),
        (["--subject", ""], ""),
        (["--client", "claude"], "ac"),
        (["--client", ""], ""),
        (["--older-than", "30d"], "bc"),
        (["--older-than", "1200h"], "c"),
        (["--older-than", "720m"], "bc"),
        (["--subject", "alice", "--older-than", "1d"], "b"),
    ],
)
def test_a_list_can_be_narrowed(url: str, options: list[str], found: str) -> None:
    keep(url, grant("a", "alice", "claude"), grant("b", "alice", "cursor", 40), grant("c", "bob", "claude", 80))
    grants = json.loads(printed("list", *options, "--json"))["grants"]
    assert "".join(sorted(one["grant_id"] for one in grants)) == found


def test_a_grant_is_shown_with_its_times_and_without_what_names_its_tokens(url: str) -> None:
    keep(url, grant("a")._replace(token_hash="t", session_hash="s", address="192.0.2.1"))
    shown = printed("show", "a")
    for text in ("Name of claude", "192.0.2.1", hashed("alice"), "https://door.example/mcp"):
        assert text in shown
    assert json.loads(printed("show", "a", "--json")) == {
        "grant_id": "a",
        "client_id": "claude",
        "client_name": "Name of claude",
        "client_family": "other",
        "subject_hash": hashed("alice"),
        "scope": "files:read",
        "resource": "https://door.example/mcp",
        "issued_at": NOW,
        "used_at": NOW,
        "address": "192.0.2.1",
    }


@pytest.mark.parametrize("name", ["[red]boom[/red]", "\x1b[31mred", "\u202egnp.exe", "a\nb"])
def test_a_hostile_name_is_printed_harmlessly(url: str, name: str) -> None:
    """THREATS 10."""
    keep(url, grant("a")._replace(client_name=name))
    for text in (printed("list"), printed("show", "a"), printed("list", "--json"), printed("show", "a", "--json")):
        assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(
    ("options", "ended", "besides"),
    [
        (["b"], "b", set()),
        (["--subject", "alice"], "ab", {("subject", hashed("alice"), False)}),
        (["--subject", "nobody"], "", {("subject", hashed("nobody"), False)}),
        (["--client", "claude"], "ac", {("client", "claude", False)}),
        (["--subject", "alice", "--client", "claude"], "a", set()),
        (["--older-than", "30d"], "bc", set()),
        (["--all"], "abcd", {("all", "", False)}),
    ],
)
def test_what_is_revoked_is_gone_and_refused_and_everybody_else_keeps_access(
    url: str, options: list[str], ended: str, besides: set[tuple[str, str, bool]]
) -> None:
    grants = (
        grant("a", "alice", "claude"),
        grant("b", "alice", "cursor", 40)._replace(token_hash="token of b"),
        grant("c", "bob", "claude", 80),
        grant("d", None, "inspector"),
    )
    keep(url, *grants)
    assert f"{len(ended)} grant{'' if len(ended) == 1 else 's'} revoked" in printed("revoke", *options, "--yes")
    assert listed(url) == set("abcd") - set(ended)
    tokens = {("token", "token of b", True)} if "b" in ended else set()
    assert revoked(url) == {("grant", one, True) for one in ended} | tokens | besides
    assert {one for one in "abcd" if lease_of(url, one) is RefreshLease.REVOKED} == set(ended)


def test_revoke_says_how_many_there_are_and_asks_first(url: str) -> None:
    keep(url, grant("a"), grant("b"), grant("c", "bob", "cursor"))
    for answer in ("n\n", "\n", ""):
        kept = run("revoke", "--all", answer=answer)
        assert kept.exit_code == 1
        assert "3 grants of 2 users to 2 clients" in kept.stdout
        assert "nothing is revoked: answer y, or add --yes" in kept.stderr
    assert listed(url) == set("abc")
    assert revoked(url) == set()
    assert run("revoke", "--all", answer="y\n").exit_code == 0
    assert listed(url) == set()


@pytest.mark.parametrize("options", [[], ["--all", "--client", "x"], ["--all", "a"]])
def test_revoke_has_to_be_told_which_grants(url: str, options: list[str]) -> None:
    keep(url, grant("a"))
    done = run("revoke", *options, "--yes")
    assert done.exit_code == 1
    assert "say which grants" in done.stderr
    assert listed(url) == {"a"}


@pytest.mark.parametrize("command", ["show", "revoke"])
def test_a_grant_that_is_not_there_is_an_error(url: str, command: str) -> None:
    keep(url)
    done = run(command, "a")
    assert done.exit_code == 1
    assert "there is no grant with this grant_id" in done.stderr


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "0d", "1.5h", "1w", "9999999d"])
def test_an_age_that_cannot_be_read_is_refused(url: str, age: str) -> None:
    keep(url, grant("a", days=99))
    done = run("revoke", f"--older-than={age}", "--yes")
    assert done.exit_code == 2
    assert "such as 30d, 12h or 90m" in done.stderr
    assert listed(url) == {"a"}


def test_a_client_that_is_revoked_takes_its_grants_along(url: str) -> None:
    async def add(stores: Stores) -> None:
        await stores.clients.add(Client(client_id="claude", issued_at=NOW, redirect_uris=(CALLBACK,)))

    keep(url, grant("a"), grant("b", client_id="cursor"))
    in_store(url, add)
    done = CliRunner().invoke(app, ["clients", "revoke", "claude", "--yes"])
    assert done.exit_code == 0, done.output
    assert listed(url) == {"b"}
    assert ("grant", "a", True) in revoked(url)


def test_ten_thousand_grants_are_listed(url: str) -> None:
    async def add(stores: Stores) -> None:
        await stores.clients.check()
        for number in range(10_000):
            await stores.grants.add(grant(str(number), f"user {number}"), expires_at=NOW + DAY)

    in_store(url, add)
    grants = json.loads(printed("list", "--limit", "10000", "--json"))
    assert grants["total"] == len({one["grant_id"] for one in grants["grants"]}) == 10_000
    assert printed("list", "--page", "200").splitlines()[-1] == "9951 to 10000 of 10000 grants"


@pytest.mark.parametrize("targets", ["{file}", "{file},stdout"])
def test_what_an_operator_revokes_is_in_the_audit_trail(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: str
) -> None:
    trail = tmp_path / "audit.jsonl"
    monkeypatch.setenv("SEED_OAUTH_AUDIT_LOG", targets.format(file=trail))
    keep(url, grant("a", "alice"), grant("b", "alice", "cursor"), grant("c", "bob"))
    assert "event.action" not in printed("revoke", "--subject", "alice", "--yes")
    records = [json.loads(line) for line in trail.read_text().splitlines()]
    assert {each["oauth.grant.id"] for each in records} == {"a", "b"}
    assert {(each["event.action"], each["event.reason"], each["user.id"]) for each in records} == {
        ("grant_revoked", "command", "alice")
    }


def test_nothing_is_revoked_if_that_cannot_be_recorded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_AUDIT_LOG", "/proc/audit.jsonl")
    keep(url, grant("a"))
    assert isinstance(run("revoke", "a", "--yes").exception, SettingsError)
    assert listed(url) == {"a"}
