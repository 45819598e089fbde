"""MCP clients as the demo plays them: whole logins over real HTTP, and everything that can go wrong."""

import base64
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import count, cycle
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import anyio
import httpx

from seed_oauth.demo.identity_provider import Behaviour
from seed_oauth.demo.stage import Stage
from seed_oauth.outcomes import GrantType

_CALLBACK = "http://127.0.0.1:53682/callback"
_SCOPE = "openid offline"

LATENCIES = (0.02, 0.04, 0.03, 0.25, 0.05, 0.7, 0.03, 0.15, 1.4, 0.04, 3.0, 6.0)
"""Seconds that exchanges take in turn, over all buckets of the histogram."""

Sample = tuple[str, tuple[str, ...]]
"""A series and the values of its labels, in the order of the contract."""

Form = dict[str, str]
Scene = Callable[[], Coroutine[Any, Any, None]]


class Traffic:
    """Plays logins and keeps a tally of the answers, which is what the metrics ought to say.

    Use it as an async context manager: it holds connections.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        # Real logins may take a while, and the doors have timeouts of their own.
        self._http = httpx.AsyncClient(timeout=30, trust_env=False)
        self.tally: Counter[Sample] = Counter()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def mishaps(self) -> tuple[Scene, ...]:
        """Everything that can go wrong, each once."""
        return (
            self._bad_code_challenge_method,
            self._code_used_twice,
            self._unknown_client,
            self._idp_fails_on_code,
            self._bad_redirect_uri,
            self._revoked_refresh_token,
            self._bad_code_challenge_length,
            self._registration_without_redirect_uri,
            self._idp_busy_on_refresh,
            self._bad_code_challenge_format,
            self._not_configured,
            self._verifier_left_out,
            self._store_down_at_authorization,
            self._store_down_at_registration,
        )

    def scenes(self, logins: int) -> list[Scene]:
        """`logins` logins with every mishap among them, once."""
        scenes: list[Scene] = [partial(self.login, number) for number in range(logins)]
        for number, mishap in enumerate(self.mishaps):
            scenes.insert(number * 3, mishap)
        return scenes

    async def login(self, number: int) -> None:
        """The login of this number, as it should be: register, authorize, exchange the code, refresh twice."""
        first, second, third = (LATENCIES[(number + offset) % len(LATENCIES)] for offset in (0, 4, 8))
        client_id = await self._register()
        tokens = await self._exchange(await self._code_form(client_id), Behaviour(latency=first))
        for latency in (second, third):
            if "refresh_token" not in tokens:
                return  # the identity provider's weather was bad
            tokens = await self._exchange(_refresh_form(client_id, tokens), Behaviour(latency=latency))

    # The seven ways in which an authorization fails.

    async def _not_configured(self) -> None:
        await self._authorize(await self._register(), door=self._stage.unconfigured_door)

    async def _bad_code_challenge_method(self) -> None:
        await self._authorize(await self._register(), code_challenge_method="plain")

    async def _bad_code_challenge_length(self) -> None:
        await self._authorize(await self._register(), code_challenge="too-short")

    async def _bad_code_challenge_format(self) -> None:
        await self._authorize(await self._register(), code_challenge="+" * 43)

    async def _unknown_client(self) -> None:
        await self._authorize("a-client-that-was-registered-elsewhere")

    async def _bad_redirect_uri(self) -> None:
        await self._authorize(await self._register(), redirect_uri="https://somewhere.example/else")

    async def _store_down_at_authorization(self) -> None:
        await self._authorize(await self._register(), door=self._stage.storeless_door)

    # The ways in which an exchange fails.

    async def _code_used_twice(self) -> None:
        form = await self._code_form(await self._register())
        await self._exchange(form)
        await self._exchange(form)

    async def _idp_fails_on_code(self) -> None:
        await self._exchange(await self._code_form(await self._register()), Behaviour(status=500, html=True))

    async def _verifier_left_out(self) -> None:
        form = await self._code_form(await self._register())
        del form["code_verifier"]
        # The door refuses it without asking the identity provider: that is no exchange.
        await self._http.post(f"{self._stage.front_door}/oauth/token", data=form)

    async def _revoked_refresh_token(self) -> None:
        client_id = await self._register()
        tokens = await self._exchange(await self._code_form(client_id))
        form = {"token": tokens.get("refresh_token", "none"), "client_id": client_id}
        await self._http.post(f"{self._stage.front_door}/oauth/revoke", data=form)
        await self._exchange(_refresh_form(client_id, tokens))

    async def _idp_busy_on_refresh(self) -> None:
        client_id = await self._register()
        tokens = await self._exchange(await self._code_form(client_id))
        await self._exchange(_refresh_form(client_id, tokens), Behaviour(status=429))

    # The ways in which a registration fails.

    async def _registration_without_redirect_uri(self) -> None:
        await self._register(redirect_uris=[])

    async def _store_down_at_registration(self) -> None:
        await self._register(door=self._stage.storeless_door)

    # The steps of which all of it is made; each adds to the tally what came back.

    async def _register(self, door: str | None = None, **changes: object) -> str:
        """Register a public client, and give its client_id (empty when it was refused)."""
        metadata = {"redirect_uris": [_CALLBACK], "token_endpoint_auth_method": "none", "client_name": "Demo"}
        response = await self._http.post(
            f"{door or self._stage.front_door}/oauth/register", json={**metadata, **changes}
        )
        result = "success" if response.status_code == httpx.codes.CREATED else "invalid"
        result = "error" if response.is_server_error else result
        self.tally["oauth_dcr_registrations_total", (result,)] += 1
        return str(response.json().get("client_id", ""))

    async def _authorize(self, client_id: str, door: str | None = None, **changes: str) -> str | None:
        """Ask for authorization, and give where the browser is sent (None when it stays)."""
        request = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": _CALLBACK,
            "code_challenge": _challenge("x" * 43),
            "code_challenge_method": "S256",
            "scope": _SCOPE,
            "state": secrets.token_urlsafe(8),
        }
        url = f"{door or self._stage.front_door}/oauth/authorize"
        response = await self._http.get(url, params={**request, **changes})
        location: str | None = response.headers.get("location")
        if location and location.startswith(self._stage.identity_provider_url):
            result = "success"
        elif response.is_client_error and response.json()["error"] == "invalid_client":
            result = "invalid_client"
        else:
            result = "error"
        self.tally["oauth_authorization_requests_total", (result,)] += 1
        return location

    async def _code_form(self, client_id: str) -> Form:
        """Authorize as far as the code, and give the token request that redeems it."""
        code_verifier = secrets.token_urlsafe(48)
        location = await self._authorize(client_id, code_challenge=_challenge(code_verifier))
        returned = await self._http.get(location or "")
        code = dict(parse_qsl(urlsplit(returned.headers["location"]).query))["code"]
        return {
            "grant_type": GrantType.AUTHORIZATION_CODE,
            "code": code,
            "code_verifier": code_verifier,
            "redirect_uri": _CALLBACK,
            "client_id": client_id,
        }

    async def _exchange(self, form: Form, behaviour: Behaviour | None = None) -> dict[str, str]:
        """Exchange a code or a refresh token, with the identity provider behaving so."""
        if behaviour is not None:
            self._stage.identity_provider.script(form.get("code") or form["refresh_token"], behaviour)
        response = await self._http.post(f"{self._stage.front_door}/oauth/token", data=form)
        result = "success" if response.status_code == httpx.codes.OK else "failure"
        self.tally["oauth_token_exchanges_total", (form["grant_type"], result)] += 1
        self.tally["oauth_token_exchange_duration_seconds_count", (form["grant_type"],)] += 1
        tokens: dict[str, str] = response.json()
        return tokens


async def play(scenes: Sequence[Scene], at_once: int = 64, tick: Callable[[], None] = lambda: None) -> None:
    """Play the scenes, at most `at_once` at a time, and call `tick` after each."""
    limit = anyio.CapacityLimiter(at_once)

    async def one(scene: Scene) -> None:
        async with limit:
            await scene()
        tick()

    async with anyio.create_task_group() as group:
        for scene in scenes:
            group.start_soon(one, scene)


async def play_on(traffic: Traffic, per_second: float) -> None:
    """Play logins for ever, `per_second` of them, with a mishap now and then."""
    mishaps = cycle(traffic.mishaps)
    async with anyio.create_task_group() as group:
        for number in count():
            group.start_soon(traffic.login, number)
            if number % 3 == 0:
                group.start_soon(next(mishaps))
            await anyio.sleep(1 / per_second)


def _refresh_form(client_id: str, tokens: dict[str, str]) -> Form:
    refresh_token = tokens.get("refresh_token", "none")
    return {"grant_type": GrantType.REFRESH_TOKEN, "refresh_token": refresh_token, "client_id": client_id}


def _challenge(code_verifier: str) -> str:
    digest = hashlib.sha256(code_verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
