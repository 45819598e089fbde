"""The traffic of the demo: complete logins by various MCP clients, and every failure."""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, cycle
from types import TracebackType
from typing import Any, Self

import anyio
import httpx

from seed_oauth.cli.demo.browser import Browser
from seed_oauth.cli.demo.environment import Environment
from seed_oauth.cli.demo.fault_injection import Behaviour
from seed_oauth.cli.demo.user import Application, Sample, User

APPLICATIONS = (
    Application("Claude", "https://claude.ai/api/mcp/auth_callback", "Claude-User"),
    Application("Codex", "http://127.0.0.1:1455/auth/callback", "codex-mcp-client/0.151.0"),
    Application("ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect", "openai-mcp/1.0.0"),
    Application("Visual Studio Code", "http://127.0.0.1:33418/", "Visual Studio Code/1.107.0"),
    Application("Cursor", "cursor://anysphere.cursor-mcp/oauth/callback", "Cursor/1.7.28"),
    Application("MCP Inspector", "http://localhost:6274/oauth/callback", "mcp-inspector/0.17.2"),
    Application("Somebody's own agent", "http://127.0.0.1:53682/callback", "node"),
)
"""One of each client family; the redirect URIs are never requested."""

LATENCIES = (0.02, 0.04, 0.03, 0.25, 0.05, 0.7, 0.03, 0.15, 1.4, 0.04, 3.0, 6.0)
"""Latencies of successive token exchanges in seconds; they cover all buckets of the histogram."""

WAITS = (0.2, 1.4, 0.3, 3.2, 0.2, 1.5, 0.4, 6.5)
"""Seconds that successive users spend at the identity provider. Real users take longer."""

Scenario = Callable[[], Coroutine[Any, Any, None]]


class Traffic:
    """Runs logins and tallies the responses, which the metrics must match.

    Use it as an async context manager, which closes its connections.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        # Longer than the timeouts of the front doors.
        self._http = httpx.AsyncClient(timeout=30, trust_env=False)
        self.tally: Counter[Sample] = Counter()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def failures(self) -> tuple[Scenario, ...]:
        """Every failure, once."""
        return (
            self._bad_code_challenge_method,
            self._code_used_twice,
            self._consent_denied,
            self._unknown_client,
            self._tokens_never_used,
            self._idp_fails_on_code,
            self._login_given_up,
            self._bad_redirect_uri,
            self._revoked_refresh_token,
            self._callback_in_another_browser,
            self._bad_code_challenge_length,
            self._registration_without_redirect_uri,
            self._idp_busy_on_refresh,
            self._forged_code,
            self._bad_code_challenge_format,
            self._refresh_token_used_again,
            self._not_configured,
            self._verifier_left_out,
            self._session_ended_at_idp,
            self._forged_state,
            self._store_down_at_authorization,
            self._store_down_at_registration,
        )

    def scenarios(self, logins: int) -> list[Scenario]:
        """`logins` logins, and every failure once among them."""
        scenarios: list[Scenario] = [partial(self.login, number) for number in range(logins)]
        for number, failure in enumerate(self.failures):
            scenarios.insert(number * 3, failure)
        return scenarios

    async def login(self, number: int) -> None:
        """A complete login: discover, register, consent, log in, exchange the code, call the MCP server, refresh twice.

        Some users deny first and approve later. Some let the browser remember their consent, and log in again
        without being asked.
        """
        seconds = [WAITS[number % len(WAITS)], *(LATENCIES[(number + at) % len(LATENCIES)] for at in (0, 4, 8))]
        session = [Behaviour(latency=latency) for latency in seconds]
        hesitates, remembers = number % 8 == 5, number % 4 == 1  # noqa: PLR2004 - shares of the users
        async with self._user(APPLICATIONS[number % len(APPLICATIONS)]) as user:
            await user.discover()
            await user.register()
            if hesitates:
                await user.decide(await user.authorize(), "deny")
            remember = {"remember": "on"} if remembers else {}
            tokens = await user.tokens(*session, **remember)
            for _ in range(2):
                if "refresh_token" not in tokens:
                    return  # an injected fault
                await user.call(tokens)
                tokens = await user.refresh(tokens)
            if remembers:
                await user.call(await user.tokens())

    # Failed authorization requests.

    async def _not_configured(self) -> None:
        async with self._registered() as user:
            await user.authorize(door=self._environment.unconfigured_door)

    async def _bad_code_challenge_method(self) -> None:
        async with self._registered() as user:
            await user.authorize(code_challenge_method="plain")

    async def _bad_code_challenge_length(self) -> None:
        async with self._registered() as user:
            await user.authorize(code_challenge="too-short")

    async def _bad_code_challenge_format(self) -> None:
        async with self._registered() as user:
            await user.authorize(code_challenge="+" * 43)

    async def _unknown_client(self) -> None:
        async with self._user() as user:
            await user.authorize(client_id="a-client-that-was-registered-elsewhere")

    async def _bad_redirect_uri(self) -> None:
        async with self._registered() as user:
            await user.authorize(redirect_uri="https://somewhere.example/else")

    async def _store_down_at_authorization(self) -> None:
        async with self._registered() as user:
            await user.authorize(door=self._environment.storeless_door)

    # Logins that end before a code is issued, or whose tokens nobody uses.

    async def _consent_denied(self) -> None:
        async with self._registered() as user:
            await user.decide(await user.authorize(), "deny")

    async def _login_given_up(self) -> None:
        async with self._registered() as user:
            sent = await user.decide(await user.authorize(), "approve")
            await user.come_back(await user.log_in(sent, Behaviour(error="access_denied", latency=0.5)))

    async def _callback_in_another_browser(self) -> None:
        async with self._registered() as user, Browser() as another:
            sent = await user.decide(await user.authorize(), "approve")
            await user.come_back(await user.log_in(sent), another)

    async def _forged_state(self) -> None:
        async with self._user() as user:
            await user.come_back(f"{self._environment.front_door}/oauth/callback?code=stolen&state=made-up")

    async def _tokens_never_used(self) -> None:
        async with self._registered() as user:
            await user.tokens()

    # Failed exchanges with the identity provider.

    async def _idp_fails_on_code(self) -> None:
        async with self._registered() as user:
            await user.code(Behaviour(), Behaviour(status=500, html=True))

    async def _idp_busy_on_refresh(self) -> None:
        async with self._registered() as user:
            tokens = await user.tokens(Behaviour(), Behaviour(), Behaviour(status=429))
            await user.refresh(tokens)

    async def _session_ended_at_idp(self) -> None:
        async with self._registered() as user:
            tokens = await user.tokens(Behaviour(), Behaviour(), Behaviour(error="invalid_grant"))
            await user.refresh(tokens)

    # Token requests that the front door refuses by itself. They do not count as exchanges.

    async def _code_used_twice(self) -> None:
        async with self._registered() as user:
            code = await user.code()
            await user.redeem(code)
            await user.redeem(code)

    async def _verifier_left_out(self) -> None:
        async with self._registered() as user:
            await user.redeem(await user.code(), code_verifier=None)

    async def _forged_code(self) -> None:
        async with self._registered() as user:
            await user.redeem(secrets.token_urlsafe(32))

    async def _refresh_token_used_again(self) -> None:
        async with self._registered() as user:
            first = await user.tokens()
            second = await user.refresh(first)
            await user.spend(first)  # a retry after a lost response
            await user.refresh(second)
            await user.spend(first)

    async def _revoked_refresh_token(self) -> None:
        async with self._registered() as user:
            tokens = await user.tokens()
            await user.revoke(tokens)
            await user.spend(tokens)

    # Failed registrations.

    async def _registration_without_redirect_uri(self) -> None:
        async with self._user() as user:
            await user.register(redirect_uris=[])

    async def _store_down_at_registration(self) -> None:
        async with self._user() as user:
            await user.register(door=self._environment.storeless_door)

    @asynccontextmanager
    async def _user(self, application: Application = APPLICATIONS[-1]) -> AsyncIterator[User]:
        async with Browser() as browser:
            yield User(self._environment, application, browser, self._http, self.tally)

    @asynccontextmanager
    async def _registered(self) -> AsyncIterator[User]:
        async with self._user() as user:
            await user.discover()
            await user.register()
            yield user


async def play(scenarios: Sequence[Scenario], at_once: int = 64, tick: Callable[[], None] = lambda: None) -> None:
    """Run the scenarios, at most `at_once` at a time, and call `tick` after each."""
    limit = anyio.CapacityLimiter(at_once)

    async def one(scenario: Scenario) -> None:
        async with limit:
            await scenario()
        tick()

    async with anyio.create_task_group() as group:
        for scenario in scenarios:
            group.start_soon(one, scenario)


async def play_on(traffic: Traffic, per_second: float) -> None:
    """Run `per_second` logins per second until cancelled, with a failure now and then."""
    failures = cycle(traffic.failures)
    async with anyio.create_task_group() as group:
        for number in count():
            group.start_soon(traffic.login, number)
            if number % 3 == 0:
                group.start_soon(next(failures))
            await anyio.sleep(1 / per_second)
