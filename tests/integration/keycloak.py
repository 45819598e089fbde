"""Keycloak, one for all the tests of a session: how it is started, and how a front door is registered at it."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.cli.test_cli import free_port
from tests.harness import json_of
from tests.integration.identity_providers import SCOPE, Registration
from tests.integration.real_parts import ready, running
from tests.real_parts import KEYCLOAK, path_of

REALM = json.loads((Path(__file__).parent / "keycloak_realm.json").read_text())
USER = {"username": "alice", "password": "password of alice"}
SECRET = "secret of the door at Keycloak"
_ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class Keycloak:
    """A Keycloak with the realm of `keycloak_realm.json`."""

    url: str

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/{REALM['realm']}"

    async def register(
        self,
        *,
        redirect_uris: Sequence[str],
        resource: str,
        sends_iss: bool = True,
        logout: Mapping[str, str] | None = None,
    ) -> Registration:
        """Make a front door a client, whose access tokens have `resource` in their audience.

        Without `sends_iss` users come back without `iss` (RFC 9207), as from identity providers that do not know it.
        `logout` has the attributes of back-channel logout.
        """
        client_id = f"mcp-front-door-{secrets.token_hex(4)}"
        audience = {
            "name": "resource",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": resource, "access.token.claim": "true"},
        }
        client = {
            "clientId": client_id,
            "secret": SECRET,
            "redirectUris": redirect_uris,
            "attributes": {
                "pkce.code.challenge.method": "S256",
                "exclude.issuer.from.auth.response": str(not sends_iss).lower(),
                **(logout or {}),
            },
            "protocolMappers": [audience],
            "defaultClientScopes": ["basic"],
            "optionalClientScopes": [SCOPE, "offline_access"],
        }
        await self._administer(f"/admin/realms/{REALM['realm']}/clients", client)
        return Registration(issuer=self.issuer, client_id=client_id, client_secret=SECRET, user=USER)

    async def import_realm(self) -> None:
        await self._administer("/admin/realms", REALM)
        # Scopes in the realm's own description would take the place of Keycloak's.
        shown = {"include.in.token.scope": "true"}
        scope = {"name": SCOPE, "protocol": "openid-connect", "attributes": shown}
        await self._administer(f"/admin/realms/{REALM['realm']}/client-scopes", scope)

    async def _administer(self, path: str, content: dict[str, Any]) -> None:
        login = {"grant_type": "password", "client_id": "admin-cli", "username": _ADMINISTRATOR, "password": SECRET}
        async with httpx.AsyncClient(trust_env=False, base_url=self.url, timeout=30) as http:
            token = json_of(await http.post("/realms/master/protocol/openid-connect/token", data=login))["access_token"]
            created = await http.post(path, json=content, headers={"Authorization": f"Bearer {token}"})
        assert created.status_code == 201, created.text


@contextmanager
def keycloak(folder: Path) -> Iterator[Keycloak]:
    """A Keycloak that keeps everything in memory, once it answers and has the realm. Takes half a minute."""
    java = path_of("java")
    url = f"http://127.0.0.1:{free_port()}"
    # What bin/kc.sh would run: under the script, the process that is stopped would not be the server.
    command = [
        java,
        "-XX:TieredStopAtLevel=1",  # it starts in two thirds of the time
        "-Xmx512m",
        f"-Dkc.home.dir={KEYCLOAK}",
        "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
        "-cp",
        str(KEYCLOAK / "lib" / "quarkus-run.jar"),
        "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
        "start",
        "--optimized",
        "--cache=local",
        "--http-enabled=true",
        "--http-host=127.0.0.1",
        f"--http-port={url.rpartition(':')[2]}",
        "--hostname-strict=false",
    ]
    environment = {"KC_BOOTSTRAP_ADMIN_USERNAME": _ADMINISTRATOR, "KC_BOOTSTRAP_ADMIN_PASSWORD": SECRET}
    log = folder / "keycloak.log"
    with running(command, log, environment) as process:
        anyio.run(ready, f"{url}/realms/master/.well-known/openid-configuration", process, log)
        server = Keycloak(url)
        anyio.run(server.import_realm)
        yield server
