"""An identity provider for the benchmark: it accepts any code at once, and is not measured itself.

Its access tokens are opaque, but for a `resource` (RFC 8707) it gives JWTs, which are signed by nobody. Those that are
to be checked come from `GET /access_token`.

Raw ASGI, so that it takes as little as possible of the machine the measured server runs on. It counts the
exchanges it served: so the benchmark sees that a contender really made one for each token request.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from time import time
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

Message = MutableMapping[str, Any]

ISSUER = "https://idp.example"
OPAQUE = "an-access-token-as-long-as-an-opaque-one-usually-is"

served = 0


@lru_cache
def tokens(resource: str) -> bytes:
    """The token response."""
    claims = {"iss": ISSUER, "aud": resource, "sub": "somebody", "exp": 4_000_000_000, "scope": "openid"}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "at+jwt", "kid": "one"}, claims)]
    jwt = ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"s" * 256))
    return json.dumps(
        {
            "access_token": jwt if resource else OPAQUE,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": "a-refresh-token-as-long-as-an-opaque-one-usually-is",
            "scope": "openid profile",
        }
    ).encode()


@lru_cache
def keys() -> KeySet:
    """The signing keys, by the names of their algorithms."""
    # RSA takes a while, and most benchmarks do without.
    return KeySet([ECKey.generate_key("P-256", {"kid": "ES256"}), RSAKey.generate_key(2048, {"kid": "RS256"})])


def access_token(algorithm: str, audience: str) -> str:
    """One that is good for an hour, with what resource servers ask for."""
    claims = {
        "iss": ISSUER,
        "aud": audience,
        "sub": "alice",
        "client_id": "https://app.example/client.json",
        "scope": "files:read files:write",
        "email": "alice@example.com",
        "email_verified": True,
        "iat": int(time()),
        "exp": int(time()) + 3600,
    }
    return jwt.encode({"alg": algorithm, "kid": algorithm, "typ": "at+jwt"}, claims, keys().get_by_kid(algorithm))


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """`POST /token` answers a token, `GET /exchanges` how many it has answered, anything else 200.

    `GET /access_token?algorithm=…&audience=…` answers a JWT that the keys at `/jwks` verify.
    """
    global served  # noqa: PLW0603 - the one figure this process keeps
    if scope["type"] != "http":
        return
    sent, more = b"", True
    while more:
        message = await receive()
        sent, more = sent + message.get("body", b""), message.get("more_body", False)
    body = b"anything"
    if scope["path"] == "/token":
        served += 1
        body = tokens(parse_qs(sent.decode()).get("resource", [""])[0])
    elif scope["path"] == "/exchanges":
        body = str(served).encode()
    elif scope["path"] == "/jwks":
        body = json.dumps(keys().as_dict(private=False)).encode()
    elif scope["path"] == "/access_token":
        wanted = parse_qs(scope["query_string"].decode())
        body = access_token(wanted["algorithm"][0], wanted["audience"][0]).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
