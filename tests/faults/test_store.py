"""Our own store in trouble: what is said, that nobody loses what they have, and that it recovers by itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest

from seed_oauth.outcomes import AuthorizationOutcome, RegistrationOutcome, RevocationOutcome, TokenOutcome
from seed_oauth.telemetry.contract import error_attributes
from tests import certificates
from tests.cli.test_cli import Server, free_port, serving
from tests.faults.fault import Fault
from tests.faults.store_troubles import RETRY_AFTER, TROUBLES, Happening, Trouble, redis_killed
from tests.harness import (
    CALLBACK,
    Samples,
    authorization_request,
    code_request,
    document,
    json_of,
    query_of,
    refresh_request,
    registration_request,
    samples_of,
)
from tests.http_client.test_guarded_transport import publishing
from tests.http_client.test_transport import response
from tests.integration.login import client_id_from, code_for, returned_from
from tests.integration.real_parts import eventually, identity_provider, idp_settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TITLE = "The store"

PREREGISTERED = "ours"

_COUNTERS = {"oauth_errors_total", "oauth_idp_requests_total"}

Form = dict[str, str]


@pytest.fixture(scope="module")
async def idp(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where an identity provider is that lets everybody in."""
    port = free_port()
    async with identity_provider(tmp_path_factory.mktemp("idp"), port):
        yield f"http://127.0.0.1:{port}"


@dataclass
class Door:
    """A door that runs, and a client that publishes its document."""

    server: Server
    published: str
    code: Form = field(default_factory=dict)
    """The token request for a code, if a test has got one."""

    @property
    def http(self) -> httpx.AsyncClient:
        return self.server.http

    async def get(self, path: str, **parameters: str) -> httpx.Response:
        return await self.http.get(f"{self.server.url}{path}", params=parameters)

    async def register(self) -> httpx.Response:
        return await self.http.post(f"{self.server.url}/oauth/register", json=registration_request())

    async def token(self, form: Form) -> httpx.Response:
        return await self.http.post(f"{self.server.url}/oauth/token", data=form)

    async def revoke(self, form: Form) -> httpx.Response:
        revocation = {"client_id": form["client_id"], "token": form["refresh_token"]}
        return await self.http.post(f"{self.server.url}/oauth/revoke", data=revocation)

    async def log_in(self, client_id: str) -> Form:
        """A whole login: the token request that refreshes its tokens."""
        tokens = json_of(await self.token(await code_for(client_id, self.server.url)))
        return refresh_request(client_id=client_id, refresh_token=tokens["refresh_token"])

    async def refusal_at_callback(self, client_id: str) -> dict[str, str]:
        """What the client is told at the end of a login that fails."""
        return query_of(await returned_from(client_id, self.server.url))

    async def is_ready(self) -> bool:
        return (await self.get("/readyz")).status_code == 200

    async def counts(self, fault: Fault, ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """The answer to a request that ends in the fault's row, in which it is counted once and nowhere else.

        The identity provider hears nothing of it.
        """
        before = await self._counted()
        answer = await ask()
        assert fault.outcome is not None
        row = "oauth_errors_total", frozenset(error_attributes(fault.outcome).items())
        after = await self._counted()
        assert {key: value - before[key] for key, value in after.items() if value != before[key]} == {row: 1}
        assert answer.status_code == fault.outcome.status
        assert json_of(answer)["error"] == fault.outcome.error
        assert answer.headers.get("retry-after") == fault.retry_after
        return answer

    async def _counted(self) -> Samples:
        samples = samples_of((await self.http.get(self.server.metrics)).text)
        return {key: value for key, value in samples.items() if key[0] in _COUNTERS}


@asynccontextmanager
async def door_at(happening: Happening, folder: Path, idp: str, **settings: str) -> AsyncIterator[Door]:
    """A door whose store is there, or is in trouble from the start."""
    folder.mkdir()
    trusted = folder / "authority.pem"
    trusted.write_text(certificates.authority_pem())
    content: list[object] = []

    async def publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(orjson.dumps(content[0]), headers=b"Content-Type: application/json\r\n"))

    environment = {
        **idp_settings(idp),
        "SSL_CERT_FILE": str(trusted),
        "SEED_OAUTH_STORE_URL": happening.url,
        "SEED_OAUTH_CLIENTS": json.dumps([{"client_id": PREREGISTERED, "redirect_uris": [CALLBACK]}]),
        "SEED_OAUTH_CLIENT_DOCUMENTS_ON_LOOPBACK": "true",
        **settings,
    }
    async with publishing(publish, "localhost") as port:
        published = f"https://localhost:{port}/client.json"
        content.append(document(published))
        async with serving(folder, environment, launcher=happening.launcher) as server:
            yield Door(server, published)


def _marks(trouble: Trouble) -> list[pytest.MarkDecorator]:
    return [pytest.mark.real_parts("redis")] if trouble.fault.name.startswith("Redis") else []


@pytest.mark.parametrize(
    "trouble", [pytest.param(trouble, id=trouble.fault.name, marks=_marks(trouble)) for trouble in TROUBLES]
)
async def test_trouble_of_the_store_is_said_and_counted_and_passes_by_itself(
    trouble: Trouble, tmp_path: Path, idp: str
) -> None:
    """Faults, "The store": each trouble of SQLite and of Redis."""
    with trouble.happens(tmp_path / "store") as happening:
        async with door_at(happening, tmp_path / "door", idp) as door:
            process = door.server.process
            known = [] if happening.from_the_start else [await client_id_from(door.http, door.server.url)]
            needs_no_store = [] if happening.from_the_start else [PREREGISTERED, door.published]
            refreshes = [await door.log_in(client_id) for client_id in needs_no_store]
            codes = [await code_for(client_id, door.server.url) for client_id in needs_no_store]
            await asyncio.to_thread(happening.begin, process.pid)

            unready = await door.get("/readyz")
            assert unready.status_code == 503
            assert "SEED_OAUTH_STORE_URL" in json_of(unready)["problems"][0]
            assert (await door.get("/healthz")).status_code == 200
            await door.counts(trouble.fault, door.register)
            # Nobody is told to throw a code or a refresh token away.
            told = await door.refusal_at_callback(PREREGISTERED)
            assert told["error"] == "temporarily_unavailable"
            for form in (*codes, *refreshes):
                refused = await door.token(form)
                assert (refused.status_code, json_of(refused)["error"]) == (503, "temporarily_unavailable")

            await asyncio.to_thread(happening.end, process.pid)
            await eventually(door.is_ready)
            assert (await door.register()).status_code == 201
            for form in refreshes:
                assert (await door.token(form)).status_code == 200
            for client_id in (*known, PREREGISTERED, door.published):
                await door.log_in(client_id)
            assert process.returncode is None


@pytest.mark.real_parts("redis")
async def test_what_was_used_before_a_failover_is_not_used_again_after_it(tmp_path: Path, idp: str) -> None:
    """PROTOCOL T6, Faults, "Redis failing over"."""
    (failing_over,) = [trouble for trouble in TROUBLES if trouble.fault.name == "Redis failing over"]
    with failing_over.happens(tmp_path / "store") as happening:
        async with door_at(happening, tmp_path / "door", idp) as door:
            form = await door.log_in(PREREGISTERED)
            first = await door.token(form)
            for happen in (happening.begin, happening.end):
                await asyncio.to_thread(happen, door.server.process.pid)
            await eventually(door.is_ready)
            again = await door.token(form)
            assert json_of(again) == json_of(first)
            newest = refresh_request(client_id=PREREGISTERED, refresh_token=json_of(first)["refresh_token"])
            assert (await door.token(newest)).status_code == 200
            spent = await door.token(form)
            assert json_of(spent)["error"] == "invalid_grant"


@dataclass(frozen=True)
class Need:
    """A request that is not answered without the store, of a client that logged in before."""

    fault: Fault
    ask: Callable[[Door, Form, str], Awaitable[httpx.Response]]
    """By a door, with the refresh request of a client that needs no store, and a client_id that is in the store."""


def need(name: str, outcome: AuthorizationOutcome | TokenOutcome | RevocationOutcome, afterwards: str) -> Fault:
    return Fault(name=name, outcome=outcome, retry_after=RETRY_AFTER, afterwards=afterwards)


NEEDS = [
    Need(
        need(
            "store unavailable: a registered client requests authorization",
            AuthorizationOutcome.CLIENT_LOOKUP_FAILED,
            "clients in the settings and clients with a metadata document can log in",
        ),
        lambda door, _, registered: door.get("/oauth/authorize", **authorization_request(client_id=registered)),
    ),
    Need(
        need(
            "store unavailable: a registered client redeems a code",
            TokenOutcome.CLIENT_LOOKUP_FAILED,
            "the identity provider receives nothing; the code is not spent",
        ),
        lambda door, _, registered: door.token(code_request(client_id=registered)),
    ),
    Need(
        need(
            "store unavailable: a client redeems a code",
            TokenOutcome.STORE_FAILED,
            "the code can be redeemed after recovery, within its minute",
        ),
        lambda door, *_: door.token(door.code),
    ),
    Need(
        need(
            "store unavailable: a refresh",
            TokenOutcome.STORE_FAILED,
            "the identity provider receives nothing; the refresh token works after recovery",
        ),
        lambda door, form, _: door.token(form),
    ),
    Need(
        need("store unavailable: a revocation", RevocationOutcome.STORE_FAILED, "the client retries (RFC 7009 §2.2.1)"),
        lambda door, form, _: door.revoke(form),
    ),
]


@pytest.mark.real_parts("redis")
async def test_what_needs_the_store_is_answered_as_trouble_that_passes(tmp_path: Path, idp: str) -> None:
    with redis_killed(tmp_path / "store") as happening:
        async with door_at(happening, tmp_path / "door", idp) as door:
            registered = await client_id_from(door.http, door.server.url)
            form = await door.log_in(PREREGISTERED)
            door.code = await code_for(PREREGISTERED, door.server.url)
            await asyncio.to_thread(happening.begin, door.server.process.pid)
            for needs in NEEDS:
                await door.counts(needs.fault, lambda needs=needs: needs.ask(door, form, registered))  # type: ignore[misc]
            await asyncio.to_thread(happening.end, door.server.process.pid)
            await eventually(door.is_ready)
            assert (await door.token(form)).status_code == 200
            assert (await door.revoke(form)).status_code == 200
            assert json_of(await door.token(form))["error"] == "invalid_grant"
            await door.log_in(registered)


FLOOD = Fault(
    name="a flood of registrations fills the store",
    outcome=RegistrationOutcome.QUOTA_EXHAUSTED,
    retry_after="10",
    afterwards="clients with a token are kept; after ten seconds new clients replace those of the flood",
)


@pytest.mark.parametrize("store", ["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
async def test_a_flood_of_registrations_puts_out_nobody(
    store: str, tmp_path: Path, idp: str, request: pytest.FixtureRequest
) -> None:
    """THREATS 10."""
    in_file = store == "sqlite"
    url = f"sqlite:///{tmp_path}/clients.db" if in_file else request.getfixturevalue("empty_redis").url
    happening = Happening(url, lambda _: None, lambda _: None)
    async with door_at(happening, tmp_path / "door", idp, SEED_OAUTH_CLIENT_QUOTA="5") as door:
        used = await client_id_from(door.http, door.server.url)
        await door.log_in(used)
        for _ in range(4):
            assert (await door.register()).status_code == 201
        await door.counts(FLOOD, door.register)
        await door.log_in(used)
        assert await door.is_ready()


FAULTS = [*(trouble.fault for trouble in TROUBLES), *(needs.fault for needs in NEEDS), FLOOD]
