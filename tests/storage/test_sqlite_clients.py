import asyncio
import shlex
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import time

import pytest

from seed_oauth.clients import Client, QuotaExhaustedError, hash_secret
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database, Result, Work
from tests.docs.pages import block, read

pytestmark = pytest.mark.anyio

CLIENT = Client(
    client_id="a",
    issued_at=7,
    redirect_uris=("https://app.example/", "cursor://x"),
    token_endpoint_auth_method="client_secret_post",
    secret_hash=hash_secret("s"),
    metadata={"client_name": "Ünï ✓", "contacts": ["me"]},
)


async def test_clients_survive_a_restart(tmp_path: Path) -> None:
    first = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await first.add(CLIENT)
    await first.aclose()
    second = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    assert await second.get("a") == CLIENT
    await second.aclose()


async def test_the_command_of_the_how_to_copies_a_store_that_is_in_use(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.add(CLIENT)
    paths = {"/var/lib/seed-oauth/clients.db": "clients.db", "/var/backups/seed-oauth.db": "backup.db"}
    _, option, program, *arguments = shlex.split(
        block(read("how-to/back-up-the-store.md"), "backup").replace("\\\n", "")
    )
    copied = [sys.executable, option, program, *(str(tmp_path / paths[path]) for path in arguments)]
    copying = await asyncio.create_subprocess_exec(*copied)
    assert await copying.wait() == 0
    await store.aclose()
    restored = SqliteClientStore(Database(f"sqlite:///{tmp_path}/backup.db"))
    assert await restored.get("a") == CLIENT
    await restored.aclose()


async def test_the_file_is_created_for_its_owner_only(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.check()
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await store.aclose()


REGISTER_50 = """
import asyncio, sys
from seed_oauth.clients import Client
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database, Result, Work
from tests.docs.pages import block, read

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
    with pytest.raises(StoreError, match="no such table"):
        await store.get("a")
    other.close()
    assert await store.get("a") is None  # it is made anew
    await store.aclose()


@pytest.mark.slow
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


async def test_a_write_that_takes_too_long_is_a_store_error_and_the_next_one_works(tmp_path: Path) -> None:
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await store.check()
    other = sqlite3.connect(tmp_path / "clients.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked"):
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
    with pytest.raises(StoreError, match="file is not a database"):
        await store.check()
    with pytest.raises(StoreError, match="file is not a database"):
        await store.add(CLIENT)
    await store.aclose()


DAY = 86_400
OLD_SCHEMA = """
    CREATE TABLE clients (
        client_id TEXT PRIMARY KEY,
        issued_at INTEGER NOT NULL,
        redirect_uris TEXT NOT NULL,
        token_endpoint_auth_method TEXT NOT NULL,
        secret_hash BLOB,
        metadata TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
"""
"""As release 0.1.0 made it."""


def old_database(path: Path, clients: int = 1) -> None:
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    old.execute(OLD_SCHEMA)
    rows = [(f"old-{number}", 7, '["https://app.example/"]', "none", None, "{}") for number in range(clients)]
    old.executemany("INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?)", rows)
    old.close()


class Clock:
    """What time it is, in days."""

    def __init__(self) -> None:
        self.day = 0.0

    def __call__(self) -> float:
        return self.day * DAY


async def test_a_database_of_the_first_release_is_migrated_and_its_clients_time_begins_now(tmp_path: Path) -> None:
    old_database(tmp_path / "clients.db")
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"), client_days=1)
    assert await store.get("old-0") == Client(client_id="old-0", issued_at=7, redirect_uris=("https://app.example/",))
    await store.add(CLIENT)
    assert await store.get("a") == CLIENT
    stored = await store.look_up("old-0")
    assert stored is not None
    assert stored.last_used_at is not None  # nobody knows whether it ever got a token: it is not put out for that
    assert abs(stored.last_used_at - time()) < 60
    await store.aclose()
    again = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    assert await again.look_up("old-0") == stored  # and it is migrated once
    await again.aclose()


async def test_a_database_that_counts_no_clients_by_user_is_migrated(tmp_path: Path) -> None:
    """It has the triggers already, and must not count its clients twice."""
    before = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"))
    await before.add(CLIENT)
    await before.aclose()
    with closing(sqlite3.connect(tmp_path / "clients.db")) as connection:
        connection.execute("DROP INDEX clients_by_subject")
        connection.execute("ALTER TABLE clients DROP COLUMN subject")
    store = SqliteClientStore(Database(f"sqlite:///{tmp_path}/clients.db"), quota=2)
    assert await store.get("a") == CLIENT
    await store.mark_used("a", "alice")
    await store.add(replace(CLIENT, client_id="b"))
    with pytest.raises(QuotaExhaustedError):
        await store.add(replace(CLIENT, client_id="c"))
    await store.aclose()


@pytest.mark.slow
async def test_several_processes_migrate_a_database_at_once(tmp_path: Path) -> None:
    old_database(tmp_path / "clients.db", clients=1000)
    url = f"sqlite:///{tmp_path}/clients.db"
    processes = [subprocess.Popen([sys.executable, "-c", REGISTER_50, url, name]) for name in "pqr"]  # noqa: S603
    assert [await asyncio.to_thread(process.wait) for process in processes] == [0, 0, 0]
    store = SqliteClientStore(Database(url))
    assert (await store.search("", offset=0, limit=1)).total == 1150
    await store.aclose()


async def test_a_process_that_comes_second_does_not_migrate_again(tmp_path: Path) -> None:
    old_database(tmp_path / "clients.db")
    first, second = (Database(f"sqlite:///{tmp_path}/clients.db") for _ in range(2))
    SqliteClientStore(first)
    migrated: list[bool] = []

    def migrate_first(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE" and not migrated:  # the second one has seen that a migration is due
            migrated.append(first.read(lambda connection: bool(connection.execute("SELECT used FROM clients"))))

    second.on_connect(lambda connection: connection.set_trace_callback(migrate_first))
    store = SqliteClientStore(second)
    assert await store.get("old-0") is not None
    assert migrated == [True]
    await store.aclose()
    await first.aclose()


async def test_what_has_expired_is_cleared_away_with_the_first_registration_of_an_hour(tmp_path: Path) -> None:
    now = Clock()
    database = Database(f"sqlite:///{tmp_path}/clients.db")
    store = SqliteClientStore(database, client_days=10, now=now)

    async def register(name: str) -> int:
        await store.add(Client(client_id=name, issued_at=1, redirect_uris=()))
        count: int = database.read(lambda connection: connection.execute("SELECT count(*) FROM clients").fetchone()[0])
        return count

    for number in range(300):
        assert await register(f"old-{number}") == number + 1
    now.day = 20
    assert await register("first") == 1
    now.day = 20 + 0.9 / 24
    assert await register("second") == 2
    await store.aclose()


async def test_a_registration_is_kept_though_nothing_can_be_cleared_away(tmp_path: Path) -> None:
    class Unclearable(Database):
        async def write_patiently(self, work: Work[Result]) -> Result:
            raise StoreError("OperationalError")

    store = SqliteClientStore(Unclearable(f"sqlite:///{tmp_path}/clients.db"))
    await store.add(CLIENT)
    assert await store.get("a") == CLIENT
    await store.aclose()


async def test_another_process_that_closes_the_database_leaves_the_log_of_this_one(tmp_path: Path) -> None:
    """A process that lost its locks on the file would go on writing to a log that nobody else sees."""
    path = tmp_path / "clients.db"
    store = SqliteClientStore(Database(f"sqlite:///{path}"))
    await store.add(CLIENT)  # by two connections: the first registration has what has expired cleared away in a thread
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM clients').fetchall()"
    subprocess.run([sys.executable, "-c", look, str(path)], check=True)  # noqa: S603 - our own
    assert path.with_name("clients.db-wal").exists()
    await store.aclose()


async def test_the_log_begins_anew_while_writing_never_stops(tmp_path: Path) -> None:
    """Or else it grows until the disk is full; it did, by 5 KB for each request of a steady load."""
    database = Database(f"sqlite:///{tmp_path}/clients.db")
    written = 0

    async def keep_writing(number: int) -> None:
        nonlocal written
        store = SqliteClientStore(database)
        while written < 32_000:
            written += 1
            await store.add(Client(client_id=f"{number}-{written}", issued_at=1, redirect_uris=()))
            await asyncio.sleep(0)

    await asyncio.gather(*map(keep_writing, range(8)))
    log = (tmp_path / "clients.db-wal").stat().st_size
    assert log < 150 << 20  # all that was written takes 300 MB, and what comes between two checkpoints some 60
    await database.aclose()
