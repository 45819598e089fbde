"""The identity provider's signing keys: fetched when needed, cached, and fetched again when they change."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import ceil
from time import monotonic

import httpx
import structlog

from seed_oauth.http_client.single_flight import SingleFlight
from seed_oauth.identity_provider.discovery import read_document
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.timed import timed
from seed_oauth.protocol.jwk import BadKeysError, BadSignatureError, PublicKey, usable_keys, verify
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import Operation

FRESH = 600.0
"""Seconds until the keys are fetched again, in the background; a withdrawn key is accepted that long."""

REFETCH_AFTER = 30.0
"""Seconds between two fetches, however many tokens name unknown keys."""

_RETRY_AFTER = 5.0  # seconds between two fetches while no key is known


class UnknownKeyError(Exception):
    """The token names a key that the identity provider does not publish."""


class IssuerKeys:
    """The keys of one identity provider.

    Once they are known, an identity provider that is down does not affect the tokens that it has signed with them.
    There is never more than one fetch at a time.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, telemetry: Telemetry, clock: Callable[[], float] = monotonic
    ) -> None:
        """`transport` must not add our credentials; `clock` counts seconds and never goes back."""
        self._transport = transport
        self._record = partial(telemetry.record_idp_request, Operation.JWKS)
        self._log = structlog.get_logger("seed_oauth")
        self._skipped: Mapping[str, int] = {}
        # Those of the identity provider and, in `protect`, those of the authorization server.
        self._cache = SingleFlight(self._fetch, self._pause, in_background=True, capacity=2, clock=clock)

    async def verify(self, jwks_uri: str, token: str, key_id: str | None) -> dict[str, object]:
        """The claims of a JWT, which must be signed with the key that it names.

        Raises:
            BadSignatureError: it is not.
            UnknownKeyError: there is no such key.
            IdentityProviderError: the keys are not known, and could not be fetched.
        """
        keys = _named(await self._cache.get(jwks_uri), key_id)
        try:
            return verify(token, keys)
        except BadSignatureError:
            if key_id is not None and keys:
                raise
        # The token may be signed with a new key.
        renewed = _named(await self._cache.get(jwks_uri, within=REFETCH_AFTER), key_id)
        if (failure := self._cache.failure(jwks_uri)) is not None:
            raise failure.with_traceback(None)
        if not renewed:
            raise UnknownKeyError
        return verify(token, renewed)

    async def aclose(self) -> None:
        """Cancel a fetch that is under way."""
        await self._cache.aclose()

    async def _fetch(self, jwks_uri: str) -> tuple[Sequence[PublicKey], float]:
        with timed(self._record):
            document, _ = await read_document(self._transport, jwks_uri)
            try:
                keys, skipped = usable_keys(document)
            except BadKeysError as bad:
                raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE, f"the answer {bad}") from None
            self._note_skipped(skipped)
            if not keys:
                raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE, "no key can be used")
            return keys, FRESH

    def _note_skipped(self, skipped: Mapping[str, int]) -> None:
        """Log once which keys are not used: a token that is signed with one of them is refused."""
        if skipped != self._skipped:
            self._log.warning("signing keys of the identity provider skipped", skipped=dict(skipped))
        self._skipped = skipped

    def _pause(self, failure: Exception, _: int, is_known: bool) -> float:
        pause = REFETCH_AFTER if is_known else _RETRY_AFTER
        problem = "unexpected"
        if isinstance(failure, IdentityProviderError):
            problem = str(failure)
            failure.retry_after = ceil(pause)
        self._log.warning("signing keys of the identity provider not read", problem=problem, retry_after_s=pause)
        return pause


def _named(keys: Sequence[PublicKey], key_id: str | None) -> Sequence[PublicKey]:
    return keys if key_id is None else [key for key in keys if key.get("kid") == key_id]
