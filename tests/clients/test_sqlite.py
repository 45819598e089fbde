import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.clients import Client, StoreError, hash_secret, new_client_id, new_client_secret
from seed_oauth.clients.sqlite import SqliteClientStore
from seed_oauth.database import Database

pytestmark = pytest.mark.anyio

CLIENT = Client(
    client_id="a",
    issued_at=7,
    redirect_uris=("https://app.example/", "cursor://x"),
    token_endpoint_auth_method="client_secret_post",
    secret_hash=hash_secret("s"),
    metadata={"client_name": "Ünï ✓", "contacts": ["me"]},
)


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/clients.db" if request.param == "file" else "sqlite:///:memory:"


async def test_a_client_comes_back_as_it_was_added(url: str) -> None:
    store = SqliteClientStore(Database(url))
    await store.add(CLIENT)
    assert await store.get("a") == CLIENT
    assert await store.get("b") is None
    await store.aclose()


async def test_an_empty_store_can_answer(url: str) -> None:
    store = SqliteClientStore(Database(url))
    await store.check()
    await store.aclose()


async def test_a_client_id_is_never_given_twice(url: str) -> None:
    store = SqliteClientStore(Database(url))
    await store.add(CLIENT)
    with pytest.raises(StoreError):
        await store.add(CLIENT)
    await store.aclose()


async def test_clients_survive_a_restart(tmp_path: Path) -> None:
    first = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await first.add(CLIENT)
    await first.aclose()
    second = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    assert await second.get("a") == CLIENT
    await second.aclose()


async def test_the_file_is_created_for_its_owner_only(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.check()
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await store.aclose()


REGISTER_50 = """
import asyncio, sys
from seed_oauth.clients import Client
from seed_oauth.clients.sqlite import SqliteClientStore
from seed_oauth.database import Database

async def main():
    store = SqliteClientStore(Database(sys.argv[1]))
    for number in range(50):
        await store.add(Client(client_id=f"{sys.argv[2]}-{number}", issued_at=1, redirect_uris=()))
    await store.aclose()

asyncio.run(main())
"""


async def test_many_registrations_are_moved_from_the_log_into_the_database(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.check()
    empty = (tmp_path / "clients.db").stat().st_size
    for number in range(1024):
        await store.add(Client(client_id=f"client-{number}", issued_at=1, redirect_uris=("https://app.example/",)))
    assert (tmp_path / "clients.db").stat().st_size > empty
    await store.aclose()


async def test_a_table_that_is_gone_is_a_store_error_and_then_made_anew(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.add(CLIENT)
    other = sqlite3.connect(tmp_path / "clients.db", isolation_level=None)
    other.execute("DROP TABLE clients")
    with pytest.raises(StoreError, match="OperationalError"):
        await store.get("a")
    other.close()
    assert await store.get("a") is None  # it is made anew
    await store.aclose()


async def test_several_processes_write_and_read_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/clients.db"
    processes = [subprocess.Popen([sys.executable, "-c", REGISTER_50, url, name]) for name in "pqr"]  # noqa: S603
    assert [await asyncio.to_thread(process.wait) for process in processes] == [0, 0, 0]
    store = SqliteClientStore(Database(url))
    found = [await store.get(f"{name}-{number}") for name in "pqr" for number in range(50)]
    assert None not in found
    await store.aclose()


async def test_a_read_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.add(CLIENT)
    other = sqlite3.connect(tmp_path / "clients.db")
    other.execute("BEGIN IMMEDIATE")
    assert await store.get("a") == CLIENT
    other.rollback()
    other.close()
    await store.aclose()


async def test_a_registration_waits_for_another_processs_write_without_holding_up_the_event_loop(
    tmp_path: Path,
) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.check()
    other = sqlite3.connect(tmp_path / "clients.db")
    other.execute("BEGIN IMMEDIATE")
    adding = asyncio.create_task(store.add(CLIENT))
    for _ in range(1000):
        await asyncio.sleep(0)
        assert await store.get("a") is None  # reads go on meanwhile
    assert not adding.done()
    other.rollback()
    await adding
    assert await store.get("a") == CLIENT
    other.close()
    await store.aclose()


async def test_a_write_that_takes_too_long_is_a_store_error_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seed_oauth.database._BUSY_TIMEOUT", 0.01)
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.check()
    other = sqlite3.connect(tmp_path / "clients.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="OperationalError"):
        await store.add(CLIENT)
    other.rollback()
    other.close()
    await store.add(CLIENT)
    await store.aclose()


async def test_a_store_that_cannot_be_opened_says_so_and_recovers_by_itself(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/later/clients.db"))
    with pytest.raises(StoreError):
        await store.get("a")
    with pytest.raises(StoreError):
        await store.add(CLIENT)
    (tmp_path / "later").mkdir()
    await store.add(CLIENT)
    assert await store.get("a") == CLIENT
    await store.aclose()


async def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "clients.db").write_bytes(b"x" * 4096)
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    with pytest.raises(StoreError, match="DatabaseError"):
        await store.check()
    with pytest.raises(StoreError, match="DatabaseError"):
        await store.add(CLIENT)
    await store.aclose()


@given(st.text())
def test_only_the_very_secret_opens(guess: str) -> None:
    assert not CLIENT.has_secret(guess + "x")
    assert CLIENT.has_secret("s")


def test_a_client_without_a_secret_has_none_that_opens() -> None:
    assert not Client(client_id="p", issued_at=1, redirect_uris=()).has_secret("")


def test_identifiers_and_secrets_are_new_each_time() -> None:
    assert len({new_client_id() for _ in range(1000)}) == 1000
    assert len({new_client_secret() for _ in range(1000)}) == 1000
