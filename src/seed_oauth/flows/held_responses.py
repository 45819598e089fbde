"""Token responses that wait for their clients, from the callback until the client redeems its code.

A response is sealed with a key that is only inside that code, so whoever has the store can open none. It is taken once,
whichever process is asked. One whose client does not come is deleted, and counted by the client's family.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple, Protocol

from seed_oauth.envelopes.seal import SealError, open_once, seal_once
from seed_oauth.flows import TokenMembers
from seed_oauth.flows.revoker import Revoker
from seed_oauth.flows.transaction import CODE_LIFETIME, Code, Grant, Transaction
from seed_oauth.outcomes import CallbackOutcome, ClientFamily, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError

SWEEP_INTERVAL = 30.0
"""Seconds between two deletions of what has expired."""


class HeldResponseStore(Protocol):
    """Stores sealed token responses for all processes. Every method raises `StoreError` when it cannot answer.

    A key has 64 bits, with a sign.
    """

    async def hold(self, key: int, sealed: bytes, family: ClientFamily, *, expires_at: float) -> None:
        """Store one until it is taken or deleted."""
        ...

    async def take(self, key: int) -> bytes | None:
        """Remove one and return it; None if there is none. Of all callers in all processes, one gets it."""
        ...

    async def delete_expired(self, *, now: float) -> Mapping[str, int]:
        """Delete those that expired before `now`: how many, by client family. Each is counted to one caller."""
        ...


class HeldResponse(NamedTuple):
    """The identity provider's token response, and what was decided about it at the callback."""

    grant: Grant
    scope: str | None
    """The scope of the access token, as the client is told."""
    passed_on: bool
    """Whether the client gets the identity provider's access token."""
    access_token: str
    expires_in: int | None
    received_at: float
    """Seconds since the epoch."""
    token_hash: str | None = None
    """As in `StoredGrant`."""
    session_id: str | None = None
    """The user's session at the identity provider, where its ID token has said it."""
    address: str | None = None
    """The address of the browser."""

    def idp_members(self, now: float) -> TokenMembers:
        """The members of the identity provider's response that are still needed, as of `now`."""
        if self.expires_in is None:
            return {"access_token": self.access_token}
        waited = max(int(now - self.received_at), 0)
        return {"access_token": self.access_token, "expires_in": max(self.expires_in - waited, 0)}


class HeldResponses:
    """Holds token responses, and deletes those whose client does not come."""

    def __init__(
        self,
        store: HeldResponseStore,
        revoker: Revoker,
        count_abandoned: Callable[[ClientFamily, int], None],
        now: Callable[[], float],
    ) -> None:
        """`now` counts seconds since the epoch."""
        self._store = store
        self._revoker = revoker
        self._count_abandoned = count_abandoned
        self._now = now
        self._last_expires_at = 0.0
        self._sweeping: asyncio.Task[None] | None = None

    async def hold(
        self, code: Code, response: HeldResponse, begun: Transaction, *, seconds: int = CODE_LIFETIME
    ) -> None:
        """Hold the response that the code stands for, for as long as the code can come.

        Raises:
            OAuthError: STORE_FAILED of `CallbackOutcome`.
        """
        # An envelope is good to the end of the second in which it expires.
        expires_at = self._now() + seconds + 1
        sealed = seal_once(code.secret, [[*response.grant], *response[1:]])
        try:
            await self._store.hold(_key(code), sealed, begun.family, expires_at=expires_at)
        except StoreError as failure:
            raise OAuthError(
                CallbackOutcome.STORE_FAILED,
                "the login cannot be stored at the moment: try again",
                recipient=begun.recipient,
                client_family=begun.family,
            ) from failure
        self._last_expires_at = expires_at
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._keep_sweeping())

    async def take(self, code: Code) -> HeldResponse:
        """The response that the code stands for, once. A code that is presented again ends its grant.

        Raises:
            OAuthError: CODE_REUSED or STORE_FAILED of `TokenOutcome`.
        """
        try:
            response = _opened(code, await self._store.take(_key(code)))
            if response is None:
                await self._revoker.end(code.grant_id)
        except StoreError as failure:
            raise OAuthError(
                TokenOutcome.STORE_FAILED, "codes cannot be looked up at the moment: try again"
            ) from failure
        if response is None:
            # RFC 6749 §4.1.2: one of the two who have the code has stolen it.
            raise OAuthError(
                TokenOutcome.CODE_REUSED,
                "the code was used before, so its grant is revoked: start a new authorization",
            )
        return response

    async def sweep(self) -> None:
        """Delete the responses that have expired, and count them.

        Raises:
            StoreError: the store cannot answer.
        """
        for family, times in (await self._store.delete_expired(now=self._now())).items():
            self._count_abandoned(ClientFamily(family), times)

    async def aclose(self) -> None:
        """Stop sweeping. Another process deletes what is left, or this one after its next login."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def _keep_sweeping(self) -> None:
        """Sweep until everything that this process has held is gone."""
        swept_until = 0.0
        while swept_until <= self._last_expires_at:
            await asyncio.sleep(SWEEP_INTERVAL)
            now = self._now()
            with suppress(StoreError):  # the next sweep tries again
                await self.sweep()
                swept_until = now


def _key(code: Code) -> int:
    """The name of a response in the store, which does not tell the secret. Of those that wait, no two have the same."""
    return int.from_bytes(sha256(f"name:{code.secret}".encode()).digest()[:8], signed=True)


def _opened(code: Code, sealed: bytes | None) -> HeldResponse | None:
    """The response; None as well if somebody has changed it in the store."""
    if sealed is None:
        return None
    try:
        grant, *rest = open_once(code.secret, sealed)
    except SealError:
        return None
    return HeldResponse(Grant(*grant), *rest)
