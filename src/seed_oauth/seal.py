"""Sealed envelopes: what the door hands out to be handed back to it, so that it keeps nothing itself.

An envelope is authenticated encryption (Fernet: AES-128-CBC and HMAC-SHA256, from `cryptography`). Nobody
else can read or change it, it is good for one purpose only, and it expires. Of several keys the first one
seals and all of them open, so keys rotate without anybody being logged out.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MINIMUM_KEY_LENGTH = 32
"""Characters of a secret key; `seed-oauth` never seals with less than that."""


class Purpose(StrEnum):
    """What an envelope is for. Each has keys of its own, so none can be used in the place of another."""

    CONSENT = "consent"
    """The authorization request while its user is asked for consent."""
    REMEMBERED_CONSENT = "remembered consent"
    STATE = "state"
    """The transaction while its user is at the identity provider."""
    CODE = "code"
    REFRESH_TOKEN = "refresh token"  # noqa: S105 - the name of a purpose
    REFRESH_ANSWER = "refresh answer"
    ACCESS_TOKEN = "access token"  # noqa: S105 - the name of a purpose


class SealError(Exception):
    """An envelope that is not ours, not for this purpose, changed, or expired."""


class ExpiredError(SealError):
    """An envelope of ours that was good, some time ago."""


class Sealer:
    """Seals and opens envelopes with the operator's secret keys."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        """The first of `secret_keys` seals, all of them open."""
        self._fernets = {
            purpose: MultiFernet([Fernet(_derived_key(key, purpose)) for key in secret_keys]) for purpose in Purpose
        }

    def seal(self, purpose: Purpose, content: object, now: float) -> str:
        """`content` (JSON) as an envelope of URL-safe characters, sealed at `now` (seconds since the epoch)."""
        sealed = self._fernets[purpose].encrypt_at_time(orjson.dumps(content), int(now))
        # The padding tells nothing; without it the envelope survives every query unescaped.
        return sealed.rstrip(b"=").decode()

    def open(self, purpose: Purpose, envelope: str, *, lifetime: float, now: float) -> Any:  # noqa: ANN401 - JSON
        """What was sealed for `purpose` not more than `lifetime` seconds before `now`.

        Raises:
            ExpiredError: it was sealed longer ago.
            SealError: anything else; it does not tell what, and neither should the answer.
        """
        fernet = self._fernets[purpose]
        padded = f"{envelope}{'=' * (-len(envelope) % 4)}"
        try:
            content = fernet.decrypt_at_time(padded, int(lifetime), int(now))
        except (InvalidToken, ValueError):
            content = _of_the_future(fernet, padded, now)
        return orjson.loads(content)


def _of_the_future(fernet: MultiFernet, envelope: str, now: float) -> bytes:
    """What is in an envelope that was sealed after `now`.

    Fernet refuses those. But nobody else can seal, so either another replica's clock is ahead or ours was set
    back, and clients must not lose their refresh tokens by that.
    """
    try:
        if fernet.extract_timestamp(envelope) > now:
            return fernet.decrypt(envelope)
    except (InvalidToken, ValueError):
        raise SealError("the envelope cannot be opened") from None
    raise ExpiredError("the envelope has expired")


def _derived_key(secret_key: str, purpose: Purpose) -> bytes:
    # RFC 5869; the keys have entropy of their own, so no slow hash is needed.
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"seed-oauth {purpose}".encode())
    return urlsafe_b64encode(derivation.derive(secret_key.encode()))
