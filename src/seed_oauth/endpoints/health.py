"""`/healthz`: the process answers. `/readyz`: logins can succeed, or what is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import structlog
from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.clients import ClientStore
from seed_oauth.http.answer import json_response
from seed_oauth.http_client.single_flight import SingleFlight
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.identity_provider.open import OpenIdentityProvider
from seed_oauth.outcomes import Check
from seed_oauth.outcomes.errors import StoreError, in_words
from seed_oauth.resource_server.reachability import connect
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.store_url import place

_PATIENCE = 1.0  # seconds that a probe waits for the identity provider; the attempt continues without it
_FRESH = 1.0  # seconds for which the MCP server is not connected to again, however many probes there are
_INTERVAL = 60.0  # seconds between two looks in the background


async def healthz(_: Request) -> Response:
    """Liveness: restart the process if this does not answer."""
    return json_response({"status": "ok"}, 200)


class Problem(NamedTuple):
    """What the operator has to solve, for everybody, and where, for the operator."""

    text: str
    where: str
    check: Check
    is_partial: bool = False
    """Whether it is that of one MCP server, and another one can be reached."""


class Readiness:
    """Looks for what keeps requests from succeeding."""

    def __init__(
        self,
        settings: Settings,
        clients: ClientStore,
        idp: OpenIdentityProvider,
        record: Callable[[Check, bool], None],
        *,
        interval: float = _INTERVAL,
    ) -> None:
        """Every `interval` seconds, `record` is told which checks pass."""
        self._settings = settings
        self._clients = clients
        self._idp = idp
        self._record = record
        self._interval = interval
        self._connecting: SingleFlight[None] = SingleFlight(_connected, lambda *_: _FRESH, stale=0)
        self._looking: asyncio.Task[None] | None = None

    async def problems(self) -> AsyncIterator[Problem]:
        """Everything that has to be solved now."""
        settings = self._settings
        for name in settings.missing():
            yield Problem(f"{name} is not set", "the settings", Check.SETTINGS)
        try:
            await self._clients.check()
        except StoreError as failure:
            text = f"the store ({PREFIX}STORE_URL) cannot be used: {failure}"
            yield Problem(text, place(settings.store_url), Check.STORE)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._idp.metadata.get()
        except (IdentityProviderError, TimeoutError) as failure:
            reason = str(failure) or "timeout"
            text = f"the identity provider's metadata ({PREFIX}IDP_ISSUER) has not been read yet: {reason}"
            yield Problem(text, settings.idp_issuer or "", Check.IDP)
        connecting = [self._connecting.get(server.url) for server in settings.forwarded]
        failures = await asyncio.gather(*connecting, return_exceptions=True)
        down = [
            (server, problem)
            for server, problem in zip(settings.forwarded, failures, strict=True)
            if isinstance(problem, BaseException)
        ]
        for server, problem in down:
            text = f"the MCP server of {server.resource} cannot be reached: {in_words(problem)}"
            yield Problem(text, server.url, Check.MCP_SERVER, is_partial=len(down) < len(failures))

    def start(self) -> None:
        """Look in the background from now on: log the problems of the first time, and record whether there are any."""
        self._looking = asyncio.create_task(self._keep_looking())

    async def aclose(self) -> None:
        """Cancel what is under way."""
        await self._connecting.aclose()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _keep_looking(self) -> None:
        log = structlog.get_logger("seed_oauth")
        problems = [problem async for problem in self.problems()]
        for problem in problems:
            log.warning("not ready", problem=problem.text, where=problem.where)
        failed = {problem.check for problem in problems}
        while True:
            for check in Check:
                self._record(check, check not in failed)
            await asyncio.sleep(self._interval)
            failed = {problem.check async for problem in self.problems()}
            # Requests make do with metadata that is known, so few of them ask an identity provider that is gone.
            try:
                await self._idp.check()
            except IdentityProviderError:
                failed.add(Check.IDP)


class ReadinessEndpoint:
    """Readiness: send no traffic here unless this is 200."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def __call__(self, _: Request) -> Response:
        """The problems that the operator has to solve; 503 if there are any, unless they are partial."""
        problems = [problem async for problem in self._readiness.problems()]
        is_ready = all(problem.is_partial for problem in problems)
        body: dict[str, object] = {"status": "ready" if is_ready else "not ready"}
        if problems:
            body["problems"] = [problem.text for problem in problems]
        return json_response(body, 200 if is_ready else 503)


async def _connected(mcp_server: str) -> tuple[None, float]:
    await connect(mcp_server)
    return None, _FRESH
