"""What recording costs a request: the same app with the recorder on and off, in turns, in one process.

    python tests/bench/recording_cost.py

Without sockets and in turns, because the difference is smaller than what two runs of a server differ by.
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from statistics import median
from unittest.mock import patch
from urllib.parse import urlencode

import httpx
import structlog
from starlette.types import ASGIApp, Message

from seed_oauth import Pipeline, Settings, create_app
from seed_oauth.clients import Client
from seed_oauth.clients.sqlite import SqliteClientStore
from seed_oauth.database import Database
from seed_oauth.telemetry import Telemetry

ROUNDS, REQUESTS, WARM_UP = 12, 2_500, 200
CALLBACK = "https://app.example/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
CLIENT = {"client_id": "bench", "redirect_uri": CALLBACK}
AUTHORIZATION = {"response_type": "code", "code_challenge": CHALLENGE, "code_challenge_method": "S256", **CLIENT}
EXCHANGE = {"grant_type": "authorization_code", "code": "code", "code_verifier": VERIFIER, **CLIENT}
TOKENS = b'{"access_token":"at","token_type":"Bearer","expires_in":300}'


def nothing(*_: object) -> None:
    """The recorder when it is off."""


recorder_off = partial(
    patch.multiple, Telemetry, record=nothing, record_exchange=nothing, record_upstream_request=nothing
)


async def requests(app: ASGIApp, scope: Mapping[str, object], body: bytes, times: int) -> float:
    """CPU microseconds for each of so many requests."""
    statuses = set()

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        statuses.add(message.get("status"))

    started = time.process_time()
    for _ in range(times):
        await app(dict(scope), receive, send)
    spent = time.process_time() - started
    assert statuses <= {200, 302, None}, statuses
    return spent / times * 1e6


async def measure(name: str, scope: Mapping[str, object], body: bytes) -> None:
    settings = Settings(
        issuer="https://door.example",
        idp_authorization_url="https://idp.example/authorize",
        idp_token_url="https://idp.example/token",
        idp_client_id="proxy",
    )
    clients = SqliteClientStore(Database("sqlite:///:memory:"))
    await clients.add(Client(client_id="bench", issued_at=1, redirect_uris=(CALLBACK,)))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=TOKENS))
    app = create_app(settings, pipeline=Pipeline(), clients=clients, transport=transport)
    on, off = [], []
    for _ in range(ROUNDS):
        await requests(app, scope, body, WARM_UP)
        on.append(await requests(app, scope, body, REQUESTS))
        with recorder_off():
            await requests(app, scope, body, WARM_UP)
            off.append(await requests(app, scope, body, REQUESTS))
    print(
        f"{name}: {median(on):.0f} us with the recorder, {median(off):.0f} without: {median(on) - median(off):.1f} us"
    )


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    http = {"type": "http", "http_version": "1.1"}
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    query = urlencode(AUTHORIZATION).encode()
    asyncio.run(
        measure(
            "authorize",
            {**http, "method": "GET", "path": "/oauth/authorize", "query_string": query, "headers": []},
            b"",
        )
    )
    asyncio.run(
        measure(
            "exchange",
            {**http, "method": "POST", "path": "/oauth/token", "query_string": b"", "headers": form},
            urlencode(EXCHANGE).encode(),
        )
    )


if __name__ == "__main__":
    main()
