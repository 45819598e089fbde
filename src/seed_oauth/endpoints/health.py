"""`/healthz`: the process answers. `/readyz`: logins can succeed, or what is missing."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.clients import ClientStore
from seed_oauth.errors import StoreError
from seed_oauth.http.answer import json_response
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.identity_provider.metadata import MetadataSource

_PATIENCE = 1.0  # seconds that a probe waits for the identity provider; the attempt continues without it


async def healthz(_: Request) -> Response:
    """Liveness: restart the process if this does not answer."""
    return json_response({"status": "ok"}, 200)


class ReadinessEndpoint:
    """Readiness: send no traffic here unless this is 200."""

    def __init__(self, missing: Sequence[str], clients: ClientStore, metadata: MetadataSource) -> None:
        """`missing` are the settings without which no login can succeed."""
        self._missing = missing
        self._clients = clients
        self._metadata = metadata

    async def __call__(self, _: Request) -> Response:
        """200, or 503 with the problems that the operator has to solve."""
        problems = [f"{name} is not set" for name in self._missing]
        try:
            await self._clients.check()
        except StoreError as failure:
            problems.append(f"the client store (SEED_OAUTH_STORE_URL) cannot be reached: {failure}")
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._metadata.get()
        except (IdentityProviderError, TimeoutError) as failure:
            reason = str(failure) or "timeout"
            problems.append(f"the identity provider's metadata (SEED_OAUTH_IDP_ISSUER) has not been read yet: {reason}")
        if problems:
            return json_response({"status": "not ready", "problems": problems}, 503)
        return json_response({"status": "ready"}, 200)
