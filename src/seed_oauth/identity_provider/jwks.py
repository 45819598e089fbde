"""The identity provider's signing keys: fetched when needed, kept, and fetched again when they change."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from time import monotonic

import httpx
import structlog

from seed_oauth.identity_provider.client import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.discovery import fetch
from seed_oauth.identity_provider.timed import timed
from seed_oauth.protocol.jwk import BadKeysError, BadSignatureError, PublicKey, read_jwk_set, verify
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import Operation

FRESH = 600.0
"""Seconds until the keys are fetched again, in the background: a key that was withdrawn is good that long."""

REFETCH_AFTER = 30.0
"""Seconds between two fetches, however many tokens name keys that are not known."""

_RETRY_AFTER = 5.0  # seconds between two fetches as long as no key is known


class UnknownKeyError(Exception):
    """The token names a key that the identity provider does not publish."""


class IssuerKeys:
    """The keys of one identity provider.

    Once they are known, an identity provider that is down makes no difference to the tokens it has signed with
    them. There is never more than one fetch at a time.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, telemetry: Telemetry, clock: Callable[[], float] = monotonic
    ) -> None:
        """`transport` must not add our credentials; `clock` counts seconds and never goes back."""
        self._transport = transport
        self._record = partial(telemetry.record_idp_request, Operation.JWKS)
        self._clock = clock
        self._log = structlog.get_logger("seed_oauth")
        self._keys: Sequence[PublicKey] = ()
        self._fetching: asyncio.Task[Sequence[PublicKey]] | None = None
        self._failure: BaseException | None = None
        self._stale_at = 0.0
        self._fetch_after = 0.0

    async def verify(self, jwks_uri: str, token: str, key_id: str | None) -> dict[str, object]:
        """The claims of a JWT that is signed with the key that it names.

        Raises:
            BadSignatureError: it is not.
            UnknownKeyError: there is no such key.
            IdentityProviderError: the keys are not known, and could not be fetched.
        """
        if not self._keys:
            await self._renew(jwks_uri)
        elif self._clock() >= max(self._stale_at, self._fetch_after):
            self._start(jwks_uri)
        named = self._named(key_id)
        try:
            return verify(token, named)
        except BadSignatureError:
            if key_id is not None and named:
                raise
        # Signed with a new key, perhaps.
        await self._renew(jwks_uri)
        renewed = self._named(key_id)
        if not renewed:
            raise UnknownKeyError
        return verify(token, renewed)

    async def aclose(self) -> None:
        """Give up what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _named(self, key_id: str | None) -> Sequence[PublicKey]:
        return self._keys if key_id is None else [key for key in self._keys if key.get("kid") == key_id]

    async def _renew(self, jwks_uri: str) -> None:
        """Fetch the keys, unless that was tried just now."""
        pause = self._fetch_after - self._clock()
        if self._fetching is not None or pause <= 0:
            # Whoever gives up waiting must not take the fetch away from the others.
            await asyncio.shield(self._start(jwks_uri))
        elif self._failure is not None:
            raise self._failure.with_traceback(None)

    def _start(self, jwks_uri: str) -> "asyncio.Task[Sequence[PublicKey]]":
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(jwks_uri))
            self._fetching.add_done_callback(self._settle)
        return self._fetching

    async def _fetch(self, jwks_uri: str) -> Sequence[PublicKey]:
        with timed(self._record):
            document, _ = await fetch(self._transport, jwks_uri)
            try:
                return read_jwk_set(document)
            except BadKeysError:
                raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE) from None

    def _settle(self, fetching: "asyncio.Task[Sequence[PublicKey]]") -> None:
        self._fetching = None
        if fetching.cancelled():
            return
        now = self._clock()
        self._failure = fetching.exception()
        if self._failure is None:
            self._keys = fetching.result()
            self._stale_at = now + FRESH
        pause = REFETCH_AFTER if self._keys else _RETRY_AFTER
        self._fetch_after = now + pause
        if self._failure is not None:
            self._note(self._failure, pause)

    def _note(self, failure: BaseException, pause: float) -> None:
        problem = "unexpected"
        if isinstance(failure, IdentityProviderError):
            problem = failure.failure.value
            failure.retry_after = ceil(pause)
        self._log.warning("signing keys of the identity provider not read", problem=problem, retry_after_s=pause)
