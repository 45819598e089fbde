"""Sealed envelopes: state that clients and browsers carry, so that this server does not have to store it.

An envelope is authenticated encryption (AES-256-GCM-SIV, RFC 8452, from `cryptography`: an AEAD that stays safe if a
nonce is ever repeated). Nobody else can read or change it, it is valid for one purpose only, and it expires. Of
several keys the first one seals and all of them open, so that keys can be rotated without logging anybody out. Servers
with the same keys but different issuers cannot open each other's envelopes.

    seconds since the epoch (5 bytes) | nonce (12) | ciphertext and tag

The content is JSON, after a trace context where there is tracing.
"""

import hmac
import os
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from seed_oauth.envelopes.trace_context import LENGTH, Continued, request_trace
from seed_oauth.protocol import base64url

MINIMUM_KEY_LENGTH = 32
"""Characters of a secret key; shorter keys are refused."""

_TIME = 5  # bytes
_NONCE = 12
_ONLY_NONCE = bytes(_NONCE)  # of a key that seals once


class Purpose(StrEnum):
    """What an envelope is for. Each purpose has its own keys, so that no envelope can be used for another one."""

    CONSENT = "consent"
    """The authorization request while its user is asked for consent."""
    REMEMBERED_CONSENT = "remembered consent"
    STATE = "state"
    """The transaction while its user is at the identity provider."""
    ACCOUNT_STATE = "account state"
    """The login to the account page while its user is at the identity provider."""
    ACCOUNT_SESSION = "account session"
    """Who has signed in to the account page."""
    ACCOUNT_FORM = "account form"
    CODE = "code"
    REFRESH_TOKEN = "refresh token"  # noqa: S105 - the name of a purpose
    REFRESH_ANSWER = "refresh answer"
    CLIENT_DOCUMENT = "client document"
    ACCESS_TOKEN = "access token"  # noqa: S105 - the name of a purpose


_CONTINUED = {
    Purpose.CONSENT: Continued.AS_PARENT,
    Purpose.STATE: Continued.AS_PARENT,
    Purpose.ACCOUNT_STATE: Continued.AS_PARENT,
    Purpose.CODE: Continued.AS_PARENT,
    Purpose.REFRESH_TOKEN: Continued.AS_LINK,
    Purpose.ACCESS_TOKEN: Continued.UNTIL_USED,
}
"""The envelopes that carry a trace context."""

_FLAGS = b"\0", b"\1"  # how a trace context begins; JSON begins with neither


class SealError(Exception):
    """The envelope was not sealed here, is for another purpose, was changed, or has expired."""


class ExpiredError(SealError):
    """The envelope was sealed here for this purpose, but has expired."""


class Sealer:
    """Seals and opens envelopes with the operator's secret keys."""

    def __init__(self, secret_keys: Sequence[str], issuer: str) -> None:
        """The first of `secret_keys` seals, all of them open; `issuer` is the server whose envelopes they are."""
        self._keys = {purpose: [_derived_key(key, purpose, issuer) for key in secret_keys] for purpose in Purpose}
        self._pseudonym_key = _key(secret_keys[0], "pseudonym", issuer) if secret_keys else os.urandom(32)

    def seal(self, purpose: Purpose, content: object, now: float) -> str:
        """`content` (JSON) as an envelope of URL-safe characters, sealed at `now` (seconds since the epoch)."""
        time = int(now).to_bytes(_TIME, "big")
        nonce = os.urandom(_NONCE)
        ciphertext = self._keys[purpose][0].encrypt(nonce, _carried(purpose) + orjson.dumps(content), time)
        return base64url.encoded(time + nonce + ciphertext)

    def pseudonym(self, name: str | None) -> str | None:
        """A short name for somebody, for logs: the same for the same name, and not to be guessed without the keys."""
        return name and hmac.new(self._pseudonym_key, name.encode(), "sha256").hexdigest()[:12]

    def open(self, purpose: Purpose, envelope: str, *, lifetime: float, now: float) -> Any:  # noqa: ANN401 - JSON
        """What was sealed for `purpose` not more than `lifetime` seconds before `now`.

        An envelope that was apparently sealed after `now` opens, too. Nobody else can seal, so another replica's clock
        is ahead or ours was set back, and clients must not lose their refresh tokens because of that.

        Raises:
            ExpiredError: it was sealed longer ago.
            SealError: anything else; it does not say what, and neither should the response.
        """
        try:
            # Rate limits, for one, go by the text, so only one spelling of the same bytes is accepted.
            sealed = base64url.decoded(envelope)
        except ValueError:
            raise SealError("the envelope cannot be opened") from None
        time, nonce, ciphertext = sealed[:_TIME], sealed[_TIME : _TIME + _NONCE], sealed[_TIME + _NONCE :]
        for key in self._keys[purpose]:
            try:
                content = key.decrypt(nonce, ciphertext, time)
            except (InvalidTag, ValueError):
                continue
            if int.from_bytes(time, "big") + lifetime < int(now):
                raise ExpiredError("the envelope has expired")
            return orjson.loads(_continued(purpose, content))
        raise SealError("the envelope cannot be opened")


def seal_once(secret: str, content: object) -> bytes:
    """`content` (JSON), sealed with a key that only those who know `secret` have.

    A secret is random, has at least 128 bits, and seals nothing else.
    """
    return _key_of(secret).encrypt(_ONLY_NONCE, orjson.dumps(content), None)


def open_once(secret: str, sealed: bytes) -> Any:  # noqa: ANN401 - JSON
    """What was sealed with the secret.

    Raises:
        SealError: it was sealed with another secret, or changed.
    """
    try:
        return orjson.loads(_key_of(secret).decrypt(_ONLY_NONCE, sealed, None))
    except (InvalidTag, ValueError):
        raise SealError("it was not sealed with this secret") from None


def _carried(purpose: Purpose) -> bytes:
    trace = request_trace.get()
    return b"" if trace is None or purpose not in _CONTINUED else trace.carried(_CONTINUED[purpose])


def _continued(purpose: Purpose, content: bytes) -> bytes:
    """The content without its trace context, which the request goes on with."""
    if not content.startswith(_FLAGS):
        return content
    if (trace := request_trace.get()) is not None:
        trace.opened(_CONTINUED[purpose], content[:LENGTH])
    return content[LENGTH:]


def _key_of(secret: str) -> AESGCM:
    # A key that seals once repeats no nonce, which is all that GCM-SIV would save it from, at several times the cost.
    return AESGCM(sha256(f"seal:{secret}".encode()).digest())


def _derived_key(secret_key: str, purpose: Purpose, issuer: str) -> AESGCMSIV:
    return AESGCMSIV(_key(secret_key, purpose, issuer))


def _key(secret_key: str, use: str, issuer: str) -> bytes:
    # RFC 5869; the secret keys are random, so no slow hash is needed. No use contains a line break.
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"seed-oauth {use}\n{issuer}".encode())
    return derivation.derive(secret_key.encode())
