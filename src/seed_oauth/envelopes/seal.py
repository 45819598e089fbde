"""Sealed envelopes: what the door hands out to be handed back to it, so that it keeps nothing itself.

An envelope is authenticated encryption (AES-256-GCM-SIV, RFC 8452, from `cryptography`; of the AEADs the one that
stays safe should a nonce ever come twice). Nobody else can read or change it, it is good for one purpose only, and it
expires. Of several keys the first one seals and all of them open, so keys rotate without anybody being logged out.

    seconds since the epoch (5 bytes) | nonce (12) | ciphertext and tag
"""

import os
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MINIMUM_KEY_LENGTH = 32
"""Characters of a secret key; `seed-oauth` never seals with less than that."""


_TIME = 5  # bytes
_NONCE = 12


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
        self._keys = {purpose: [_derived_key(key, purpose) for key in secret_keys] for purpose in Purpose}

    def seal(self, purpose: Purpose, content: object, now: float) -> str:
        """`content` (JSON) as an envelope of URL-safe characters, sealed at `now` (seconds since the epoch)."""
        time = int(now).to_bytes(_TIME, "big")
        nonce = os.urandom(_NONCE)
        ciphertext = self._keys[purpose][0].encrypt(nonce, orjson.dumps(content), time)
        return _text(time + nonce + ciphertext)

    def open(self, purpose: Purpose, envelope: str, *, lifetime: float, now: float) -> Any:  # noqa: ANN401 - JSON
        """What was sealed for `purpose` not more than `lifetime` seconds before `now`.

        What seems to be sealed after `now` opens, too. Nobody else can seal, so either another replica's clock is
        ahead or ours was set back, and clients must not lose their refresh tokens by that.

        Raises:
            ExpiredError: it was sealed longer ago.
            SealError: anything else; it does not tell what, and neither should the answer.
        """
        try:
            sealed = b64decode(f"{envelope}{'=' * (-len(envelope) % 4)}", b"-_", validate=True)
        except ValueError:
            raise SealError("the envelope cannot be opened") from None
        # Base64 can be written in several ways; whatever goes by the text, a limit too, would take them for several.
        if _text(sealed) != envelope:
            raise SealError("the envelope cannot be opened")
        time, nonce, ciphertext = sealed[:_TIME], sealed[_TIME : _TIME + _NONCE], sealed[_TIME + _NONCE :]
        for key in self._keys[purpose]:
            try:
                content = key.decrypt(nonce, ciphertext, time)
            except (InvalidTag, ValueError):
                continue
            if int.from_bytes(time, "big") + lifetime < int(now):
                raise ExpiredError("the envelope has expired")
            return orjson.loads(content)
        raise SealError("the envelope cannot be opened")


def _text(sealed: bytes) -> str:
    # The padding tells nothing; without it the envelope survives every query unescaped.
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _derived_key(secret_key: str, purpose: Purpose) -> AESGCMSIV:
    # RFC 5869; the keys have entropy of their own, so no slow hash is needed.
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"seed-oauth {purpose}".encode())
    return AESGCMSIV(derivation.derive(secret_key.encode()))
