"""Several hosts that share a Redis and the secret keys, and nothing else."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from seed_oauth.server.listener import Listener, listen
from seed_oauth.storage.redis.clients import RedisClientStore
from seed_oauth.storage.redis.database import RedisDatabase
from tests.broker import BrokerDoor, Person
from tests.cli.test_cli import PATIENCE, Server, free_port, serving
from tests.harness import ISSUER, code_request, json_of, query_of, refresh_request, registration_request
from tests.integration.login import refresh_from
from tests.integration.real_parts import identity_provider, idp_settings
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("redis")]

OLD, NEW = "the-key-that-was-used-until-yesterday-9", "the-key-that-is-used-from-now-on-12345"

ROTATION = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
"""In the order of docs/how-to/secret-keys.md."""


@dataclass
class Hosts:
    """Front doors of one issuer, each of whose requests reaches the next one."""

    redis_url: str
    doors: list[BrokerDoor] = field(default_factory=list)
    turns: Iterator[int] = field(default_factory=lambda: cycle(range(2)))

    async def __aenter__(self) -> Self:
        for _ in range(2):
            self.doors.append(await self._started(ROTATION[0]))
        self.http = self.client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()
        for door in self.doors:
            await door.__aexit__(kind, error, trace)

    @property
    def provider(self) -> Any:
        return self.doors[0].provider

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.doors[next(self.turns)].app(scope, receive, send)

    def client(self, _: str = "", headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """What sends requests to the doors in turn."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ISSUER, headers=headers)

    async def restart(self, number: int, keys: Sequence[str]) -> None:
        """End one door, and start it anew with these keys."""
        ended = self.doors[number]
        self.doors[number] = await self._started(keys)
        await ended.__aexit__(None, None, None)

    async def _started(self, keys: Sequence[str]) -> BrokerDoor:
        door = BrokerDoor(
            settings={"secret_keys": tuple(keys), "store_url": self.redis_url},
            clients=RedisClientStore(RedisDatabase(self.redis_url)),
        )
        if self.doors:  # all of them go to one identity provider
            door.provider, door.idp = self.doors[0].provider, self.doors[0].idp
        return await door.__aenter__()

    async def begins(self) -> "Login":
        """A client registers, and its user's browser is sent to the identity provider."""
        registered = json_of(await self.http.post("/oauth/register", json=registration_request()))
        person = Person(self)  # type: ignore[arg-type]  # of a door it needs what several have
        return Login(self, registered["client_id"], person, await person.reaches_idp(client_id=registered["client_id"]))

    async def refreshed(self, form: dict[str, str]) -> dict[str, str]:
        """The request that refreshes the tokens that this one gets."""
        tokens = json_of(await self.http.post("/oauth/token", data=form))
        return refresh_request(client_id=form["client_id"], refresh_token=tokens["refresh_token"])


@dataclass
class Login:
    """A login that has begun."""

    hosts: Hosts
    client_id: str
    person: Person
    at_idp: str

    async def ends(self) -> dict[str, str]:
        """The user comes back: the request that refreshes the client's tokens."""
        returned = await self.person.logs_in(self.at_idp)
        await self.person.http.aclose()
        code = query_of(returned.headers["location"])["code"]
        return await self.hosts.refreshed(code_request(client_id=self.client_id, code=code))


async def test_keys_that_are_rotated_in_the_documented_order_log_nobody_out(empty_redis: RedisServer) -> None:
    """A login is begun at one door and ended at the other; so are refreshes, at each step of the rotation."""
    async with Hosts(empty_redis.url) as hosts:
        forms = [await (await hosts.begins()).ends()]
        for keys in ROTATION[1:]:
            for number in range(2):
                under_way = await hosts.begins()
                await hosts.restart(number, keys)
                forms = [await hosts.refreshed(form) for form in forms]
                forms.append(await under_way.ends())
        assert len(forms) == 1 + 2 * 3
        for form in forms:
            answers = [await hosts.http.post("/oauth/token", data=form) for _ in hosts.doors]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert json_of(answers[0]) == json_of(answers[1])


@asynccontextmanager
async def balancer(port: int, servers: list[Server]) -> AsyncIterator[None]:
    """A load balancer that gives each request to the next server."""
    turns = cycle(range(2))
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:

        async def pass_on(request: Request) -> Response:
            url = request.url.replace(netloc=httpx.URL(servers[next(turns)].url).netloc.decode())
            answer = await http.request(
                request.method, str(url), headers=request.headers.items(), content=await request.body()
            )
            passed = Response(answer.content, answer.status_code)
            passed.raw_headers = [(name.lower(), value) for name, value in answer.headers.raw]
            return passed

        app = Starlette(routes=[Route("/{path:path}", pass_on, methods=["GET", "POST"])])
        with listen("127.0.0.1", port, "PORT") as listening:
            listener = Listener(app, listening)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.run_until_stopped)
                yield
                listener.should_exit = True


async def test_two_hosts_behind_a_balancer_that_is_not_sticky_are_one_door(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    idp_port, public = free_port(), free_port()
    environment = {
        **idp_settings(f"http://127.0.0.1:{idp_port}"),
        "SEED_OAUTH_ISSUER": f"http://127.0.0.1:{public}",
        "SEED_OAUTH_SECRET_KEYS": OLD,
        "SEED_OAUTH_STORE_URL": empty_redis.url,
    }
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with (
        identity_provider(tmp_path, idp_port),
        serving(folders[0], environment) as one,
        serving(folders[1], environment) as two,
        balancer(public, [one, two]),
    ):
        door = environment["SEED_OAUTH_ISSUER"]
        for _ in range(4):
            form = await refresh_from(one.http, door)
            answers = [await one.http.post(f"{door}/oauth/token", data=form) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert json_of(answers[0]) == json_of(answers[1])
    assert [list(folder.iterdir()) for folder in folders] == [[], []]
