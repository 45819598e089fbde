"""Our JWTs, checked by the SDKs' own servers, jose and FastMCP; and introspection, by a resource server that asks."""

import json
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey

from seed_oauth.cli.demo.browser import Browser
from seed_oauth.protocol.jwk import unverified
from tests.cli.test_cli import free_port, serving
from tests.harness import code_request, json_of, query_of
from tests.integration.conftest import Register
from tests.integration.identity_providers import SCOPE
from tests.integration.login import client_id_from, onward, sent_to_idp
from tests.integration.mcp_programs import HERE, client_command, mcp_server, whole_path
from tests.integration.node_programs import node_command
from tests.integration.person import Person
from tests.integration.python_programs import packaged_command
from tests.integration.real_parts import identity_provider, idp_settings, ready, running
from tests.issued_tokens import CALLER_SECRET, EC_PEM, by_hand, ec_pem, signed_with

pytestmark = pytest.mark.anyio

OTHER = ec_pem("other")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


class Site:
    """A front door, an identity provider before it, and a resource server of somebody else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.door = f"http://127.0.0.1:{free_port()}"
        self.resource = f"http://127.0.0.1:{free_port()}/mcp"
        self.idp = f"http://127.0.0.1:{free_port()}"
        self.secret_key = secrets.token_urlsafe(32)
        self.keys = folder / "keys.pem"
        self.http = httpx.AsyncClient(trust_env=False, timeout=30)

    def environment(self, access_tokens: str) -> dict[str, str]:
        callers = [{"client_id": "files", "client_secret": CALLER_SECRET}]
        return {
            **idp_settings(self.idp),
            "SEED_OAUTH_IDP_ISSUER": self.idp,
            "SEED_OAUTH_IDP_SCOPES": "openid",
            "SEED_OAUTH_RESOURCES": self.resource,
            "SEED_OAUTH_SECRET_KEYS": self.secret_key,
            "SEED_OAUTH_ACCESS_TOKENS": access_tokens,
            "SEED_OAUTH_SIGNING_KEYS_FILE": str(self.keys),
            "SEED_OAUTH_INTROSPECTION_CLIENTS": json.dumps(callers),
            "SEED_OAUTH_STORE_URL": f"sqlite:///{self.folder}/door.db",
        }

    @asynccontextmanager
    async def serving(self, keys: str, access_tokens: str = "jwt") -> AsyncIterator[None]:
        """The door, with these keys."""
        self.keys.write_text(keys)
        async with serving(self.folder, self.environment(access_tokens), port=urlsplit(self.door).port):
            yield

    @asynccontextmanager
    async def resource_server(self, kind: str) -> AsyncIterator[None]:
        """One that checks the door's tokens by itself."""
        log = self.folder / "resource_server.log"
        with running(self._command(kind), log) as process:
            await ready(self.resource, process, log)
            yield

    def _command(self, kind: str) -> list[str]:
        port, published = urlsplit(self.resource).port, f"{self.door}/oauth/jwks"
        checked = {"issuer": self.door, "jwks_uri": published, "resource": self.resource}
        if kind == "python":
            asked = json.dumps({**checked, "authorization_server": self.door, "scope": "files"})
            return [sys.executable, str(HERE / "mcp_server.py"), str(port), asked]
        if kind == "typescript":
            return node_command(self.folder, "mcp_server.mjs", json.dumps({**checked, "port": port}))
        more = {"checks": kind, "introspection_url": f"{self.door}/oauth/introspect", "secret": CALLER_SECRET}
        return packaged_command("fastmcp_server.py", json.dumps({**checked, **more, "port": port}))

    async def login(self) -> str:
        """The access token of a client that registers and logs in."""
        self.client_id = await client_id_from(self.http, self.door)
        async with Browser() as browser:
            at_idp = await sent_to_idp(browser, self.door, client_id=self.client_id, scope="files")
            code = query_of(onward(await browser.open(onward(await browser.open(at_idp)))))["code"]
        form = code_request(client_id=self.client_id, code=code)
        return str(json_of(await self.http.post(f"{self.door}/oauth/token", data=form))["access_token"])

    async def is_accepted(self, token: str) -> bool:
        """Whether the resource server lets it in."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
        answer = await self.http.post(self.resource, json=INITIALIZE, headers=headers)
        assert answer.status_code in {200, 401}, answer.text
        return answer.status_code == 200


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    async with made.http, identity_provider(tmp_path, urlsplit(made.idp).port or 0):
        yield made


def bad_tokens(claims: Mapping[str, Any]) -> Mapping[str, str]:
    """What nobody may accept, made of the claims of a good token."""
    public = ECKey.import_key(EC_PEM).as_pem(private=False)
    return {
        "alg none": by_hand(claims, "none", None),
        "HS256 with the public key": by_hand(claims, "HS256", public),
        "a key of somebody else": signed_with(OTHER, claims),
        "the name of our key": signed_with(OTHER, claims, kid=ECKey.import_key(EC_PEM).thumbprint()),
        "another resource": signed_with(EC_PEM, {**claims, "aud": "https://elsewhere.example/mcp"}),
        "another issuer": signed_with(EC_PEM, {**claims, "iss": "https://elsewhere.example"}),
        "expired": signed_with(EC_PEM, {**claims, "exp": int(time()) - 300}),
        "not a token": "made-up",
    }


each_verifier = pytest.mark.parametrize(
    "kind",
    [
        "python",
        pytest.param("typescript", marks=pytest.mark.real_parts("node")),
        pytest.param("jwt", marks=pytest.mark.real_parts("python packages"), id="fastmcp"),
    ],
)


@each_verifier
async def test_others_accept_our_jwts_and_nothing_that_looks_like_them(kind: str, site: Site) -> None:
    """PROTOCOL J1."""
    async with site.serving(EC_PEM), site.resource_server(kind):
        token = await site.login()
        assert await site.is_accepted(token)
        _, claims = unverified(token)
        accepted = [name for name, bad in bad_tokens(claims).items() if await site.is_accepted(bad)]
        assert accepted == []
        if kind == "typescript":  # jose is told the type, as RFC 9068 §4 demands
            assert not await site.is_accepted(signed_with(EC_PEM, claims, typ="JWT"))


@each_verifier
async def test_while_the_key_changes_others_refuse_no_token(kind: str, site: Site) -> None:
    """The steps of docs/how-to/tokens-others-can-check.md."""
    before = None
    async with site.serving(EC_PEM):
        pass
    async with site.resource_server(kind):
        signers = []
        for keys in (EC_PEM, EC_PEM + OTHER, OTHER + EC_PEM, OTHER):
            async with site.serving(keys):
                token = await site.login()
                assert await site.is_accepted(token)
                assert before is None or await site.is_accepted(before)
                signers.append(unverified(token)[0]["kid"])
                before = token
    assert signers[0] == signers[1] != signers[2] == signers[3]


@pytest.mark.real_parts("python packages")
@pytest.mark.parametrize("access_tokens", ["own", "jwt"])
async def test_a_resource_server_that_asks_follows_a_revocation_at_once(access_tokens: str, site: Site) -> None:
    """PROTOCOL I1."""
    async with site.serving(EC_PEM, access_tokens), site.resource_server("introspection"):
        token = await site.login()
        assert await site.is_accepted(token)
        assert not await site.is_accepted("made-up")
        form = {"token": token, "client_id": site.client_id}
        assert (await site.http.post(f"{site.door}/oauth/revoke", data=form)).status_code == 200
        assert not await site.is_accepted(token)


@pytest.mark.parametrize("client", ["python", pytest.param("typescript", marks=pytest.mark.real_parts("node"))])
async def test_an_sdk_takes_the_whole_path_to_a_server_that_checks_our_jwts(
    client: str, register: Register, site: Site, tmp_path: Path
) -> None:
    """From 401 by login, a tool call and a refresh to another call; the door sees no request to the server."""
    protection = {
        "authorization_server": site.door,
        "resource": site.resource,
        "scope": SCOPE,
        "issuer": site.door,
        "jwks_uri": f"{site.door}/oauth/jwks",
    }
    site.keys.write_text(EC_PEM)
    async with register(redirect_uris=[f"{site.door}/oauth/callback"], resource=site.resource) as registration:
        given = {
            **registration.settings,
            "SEED_OAUTH_RESOURCES": site.resource,
            "SEED_OAUTH_ACCESS_TOKENS": "jwt",
            "SEED_OAUTH_SIGNING_KEYS_FILE": str(site.keys),
        }
        async with (
            serving(tmp_path, given, port=urlsplit(site.door).port),
            mcp_server(tmp_path, site.resource, protection),
            Person(registration.user) as person,
        ):
            told = await whole_path(client_command(client, tmp_path), site.resource, person, tmp_path)
    assert told == {"sums": [3, 7], "tokens": 2}
