"""What the tests know about a real identity provider at which the front door has been registered."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from tests.harness import json_of

SCOPE = "mcp:tools"
"""The scope of the MCP server that the front door can ask for there."""


@dataclass(frozen=True)
class Registration:
    """The front door as a confidential client of an identity provider, and somebody who can log in there."""

    issuer: str
    client_id: str
    client_secret: str
    user: Mapping[str, str]
    """What somebody types into the fields of the login page, by their names."""

    async def metadata(self) -> dict[str, str]:
        """The identity provider's own metadata."""
        async with httpx.AsyncClient(trust_env=False) as http:
            return json_of(await http.get(f"{self.issuer}/.well-known/openid-configuration"))

    @property
    def settings(self) -> dict[str, str]:
        """The environment of the front door, which finds the endpoints by itself."""
        return {
            "SEED_OAUTH_IDP_ISSUER": self.issuer,
            "SEED_OAUTH_IDP_CLIENT_ID": self.client_id,
            "SEED_OAUTH_IDP_CLIENT_SECRET": self.client_secret,
            "SEED_OAUTH_SCOPES": SCOPE,
        }
