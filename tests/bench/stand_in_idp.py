"""An identity provider for the benchmark: it accepts any code at once, and is not measured itself.

Raw ASGI, so that it takes as little as possible of the machine the measured server runs on. It counts the
exchanges it served: so the benchmark sees that a contender really made one for each token request.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]

TOKEN = json.dumps(
    {
        "access_token": "an-access-token-as-long-as-an-opaque-one-usually-is",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "a-refresh-token-as-long-as-an-opaque-one-usually-is",
        "scope": "openid profile",
    }
).encode()

served = 0


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """`POST /token` answers a token, `GET /exchanges` how many it has answered, anything else 200."""
    global served  # noqa: PLW0603 - the one figure this process keeps
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = b"anything"
    if scope["path"] == "/token":
        served += 1
        body = TOKEN
    elif scope["path"] == "/exchanges":
        body = str(served).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
