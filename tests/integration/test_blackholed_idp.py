"""An identity provider that swallows every connection, and a crowd that waits for it at one worker."""

from pathlib import Path

import anyio
import httpx
import pytest

from tests.cli.test_cli import PATIENCE, Server, serving
from tests.faults.faulty_server import blackholed, faulty_server
from tests.harness import code_request, samples_of
from tests.integration.login import client_id_from
from tests.integration.real_parts import eventually, idp_settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CROWD = 300


def connecting(port: int) -> int:
    """How many connections to a port of this machine have been asked for, and not been answered."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)  # TCP_SYN_SENT


async def check_all_others_are_served(server: Server) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp", "/healthz"):
        assert (await server.http.get(server.url + path)).status_code == 200
    assert await client_id_from(server.http, server.url)
    samples = samples_of((await server.http.get(server.metrics)).text)
    assert samples["oauth_dcr_registrations_total", frozenset({("result", "success")})] == 2


async def test_while_a_crowd_waits_everybody_else_is_served_and_then_the_crowd_is(tmp_path: Path) -> None:
    """Faults, "The identity provider", blackholed. How fast it is tests/bench/blackholed.py measures."""
    statuses: list[int] = []
    async with faulty_server() as idp:
        patient = {"SEED_OAUTH_FLOW": "relay", "SEED_OAUTH_IDP_TIMEOUT": "60", "SEED_OAUTH_IDP_CONNECT_TIMEOUT": "60"}
        async with (
            serving(tmp_path, {**idp_settings(idp.url), **patient}) as server,
            httpx.AsyncClient(trust_env=False, timeout=PATIENCE, limits=httpx.Limits()) as crowd,
            anyio.create_task_group() as group,
        ):
            client_id = await client_id_from(server.http, server.url)

            async def wait_for_tokens(number: int) -> None:
                form = code_request(client_id=client_id, code=f"code-{number}")
                statuses.append((await crowd.post(f"{server.url}/oauth/token", data=form)).status_code)

            async with blackholed(idp):
                before = connecting(idp.port)
                for number in range(CROWD):
                    group.start_soon(wait_for_tokens, number)

                async def all_wait() -> bool:
                    return connecting(idp.port) - before == CROWD

                await eventually(all_wait)
                await check_all_others_are_served(server)
                assert statuses == []
                assert connecting(idp.port) - before == CROWD

            async def all_answered() -> bool:
                return len(statuses) == CROWD

            await eventually(all_answered)
    assert statuses == [200] * CROWD
    assert len(set(idp.requests)) == len(idp.requests) == CROWD
