"""Ten thousand exchanges through a served door, of which the identity provider fails every fiftieth in some way."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from urllib.parse import parse_qs

import aiohttp
import anyio
import pytest

from seed_oauth.outcomes import TokenOutcome as Row
from tests.cli.test_cli import serving
from tests.faults.faulty_server import GOOD, Connection, faulty_server, response
from tests.harness import code_request, refresh_request, samples_of
from tests.integration.login import client_id_from
from tests.integration.real_parts import idp_settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EXCHANGES = 10_000
CONCURRENCY = 200
EVERY = 50  # the fault of 2 %
TROUBLE_THAT_PASSES = 503, "temporarily_unavailable"


@dataclass(frozen=True)
class Reaction:
    """What the identity provider does once it has read a request, and the row that this ends in."""

    row: Row
    answer: bytes = b""
    then: Callable[[Connection], Awaitable[None]] | None = None
    """If given, it comes after what is answered, and the connection ends."""


async def hang(connection: Connection) -> None:
    await connection.hang()


async def close(_: Connection) -> None:
    """Nothing more."""


async def reset(connection: Connection) -> None:
    connection.reset()


async def never_end(connection: Connection) -> None:
    while True:
        await connection.send(b"2000\r\n" + b" " * 0x2000 + b"\r\n")


SUCCESS = Reaction(Row.EXCHANGED, GOOD)
FAULTS = [
    Reaction(Row.IDP_UNREACHABLE, then=close),
    Reaction(Row.IDP_SERVER_ERROR, response(b"<h1>Bad Gateway</h1>", "502 Bad Gateway")),
    Reaction(Row.IDP_TIMEOUT, then=hang),
    Reaction(Row.IDP_INVALID_RESPONSE, response(b"<h1>Hello</h1>")),
    Reaction(Row.IDP_UNREACHABLE, then=reset),
    Reaction(Row.IDP_RATE_LIMITED, response(b"", "429 Too Many Requests", "Retry-After: 1")),
    Reaction(Row.IDP_TIMEOUT, GOOD[:-9], then=hang),
    Reaction(Row.IDP_INVALID_GRANT, response(b'{"error": "invalid_grant"}')),
    Reaction(Row.IDP_UNREACHABLE, GOOD[:-9], then=reset),
    Reaction(Row.IDP_INVALID_RESPONSE, response(b'{"access_token":')),
    Reaction(Row.IDP_INVALID_RESPONSE, response(b" " * 10_000_000)),
    Reaction(Row.IDP_INVALID_RESPONSE, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", then=never_end),
    Reaction(Row.IDP_INVALID_RESPONSE, response(b"", "307 Temporary Redirect", "Location: /token")),
    Reaction(Row.IDP_SERVER_ERROR, response(b"{}", "500 Internal Server Error")),
]


def reactions() -> dict[str, Reaction]:
    """What will be done about each code and refresh token."""
    faults = cycle(FAULTS)
    return {f"grant-{number}": next(faults) if number % EVERY == 0 else SUCCESS for number in range(EXCHANGES)}


def grant_in(request: bytes) -> str:
    form = parse_qs(request.decode())
    return (form.get("code") or form["refresh_token"])[0]


async def react(planned: Mapping[str, Reaction], connection: Connection) -> None:
    while True:
        reaction = planned[grant_in(await connection.request())]
        await connection.send(reaction.answer)
        if reaction.then is not None:
            await reaction.then(connection)
            return


async def test_each_of_ten_thousand_exchanges_is_answered_and_counted_once_and_sent_at_most_once(
    tmp_path: Path,
) -> None:
    """THREATS "Faults: IdP": all of them mixed, at a concurrency of 200."""
    planned = reactions()
    answered: dict[str, tuple[int, str | None]] = {}
    settings = {
        "SEED_OAUTH_FLOW": "relay",
        "SEED_OAUTH_LOG_LEVEL": "error",
        "SEED_OAUTH_RATE_LIMIT_TOKEN_ADDRESS": "",
    }
    async with faulty_server() as idp:
        idp.manner = partial(react, planned)
        async with serving(tmp_path, {**idp_settings(idp.url), **settings}) as server:
            client_id = await client_id_from(server.http, server.url)
            waiting = iter(planned)

            async def exchange_until_none_is_left(client: aiohttp.ClientSession) -> None:
                for grant in waiting:
                    form = code_request(client_id=client_id, code=grant)
                    if grant.endswith("7"):
                        form = refresh_request(client_id=client_id, refresh_token=grant)
                    async with client.post(f"{server.url}/oauth/token", data=form) as answer:
                        answered[grant] = answer.status, (await answer.json()).get("error")

            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=CONCURRENCY), timeout=aiohttp.ClientTimeout(total=None)
                ) as client,
                anyio.create_task_group() as group,
            ):
                for _ in range(CONCURRENCY):
                    group.start_soon(exchange_until_none_is_left, client)
            samples = samples_of((await server.http.get(server.metrics)).text)
            assert await server.stop() == "", "nothing is unexpected"

    sent = Counter(map(grant_in, idp.requests))
    # Every request is answered as what the identity provider did wants it; or as trouble that passes, where the machine
    # was too busy for that to arrive in time …
    assert answered.keys() == planned.keys()
    for grant, reaction in planned.items():
        wanted = (reaction.row.status, reaction.row.error)
        assert answered[grant] == TROUBLE_THAT_PASSES or (answered[grant] == wanted and sent[grant]), grant
    # … counted once, as what it was …
    reasons = Counter[Row]()
    total = Counter[str]()
    for (name, labels), value in samples.items():
        if name == "oauth_errors_total" and value:
            reasons[Row[dict(labels)["reason"].upper()]] += int(value)
        total[name] += int(value)
    reasons[Row.EXCHANGED] = EXCHANGES - reasons.total()
    counted = Counter[tuple[int, str | None]]()
    for row, count in reasons.items():
        counted[row.status, row.error] += count
    assert counted == Counter(answered.values())
    assert reasons.keys() >= {reaction.row for reaction in planned.values()}
    not_sent = reasons[Row.CIRCUIT_OPEN] + reasons[Row.TOO_MANY_IN_FLIGHT]
    assert total["oauth_token_exchanges_total"] == EXCHANGES - not_sent
    assert total["oauth_token_exchange_duration_seconds_count"] == EXCHANGES - not_sent
    assert total["oauth_idp_requests_total"] == EXCHANGES - not_sent
    # … and was sent at most once.
    assert set(sent.values()) == {1}
