"""The valid requests that every contender is sent: one MCP client's registration, login and refresh."""

import hashlib
import json
from base64 import urlsafe_b64encode
from urllib.parse import urlencode

from load import Request, ask

REDIRECT_URI = "https://app.example/callback"
CODE_VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CODE_CHALLENGE = urlsafe_b64encode(hashlib.sha256(CODE_VERIFIER.encode()).digest()).decode().rstrip("=")


def valid_requests(base: str, identity_provider: str, *, registers: bool) -> dict[str, Request]:
    """The requests to the endpoints under `base`, each sent once here: so it is known to be valid.

    Raises:
        BenchmarkError: one of them is not answered as it should be.
    """
    requests = {}
    client_id = "bench"
    if registers:
        requests["register"] = _registration(f"{base}/register")
        client_id = json.loads(ask(requests["register"]))["client_id"]
    requests["authorize"] = _authorization(f"{base}/authorize", client_id, identity_provider)
    ask(requests["authorize"])
    requests["token"] = _exchange(
        f"{base}/token",
        grant_type="authorization_code",
        code="a-code-as-long-as-the-usual-ones-are",
        code_verifier=CODE_VERIFIER,
        client_id=client_id,
        redirect_uri=REDIRECT_URI,
    )
    refresh_token = json.loads(ask(requests["token"]))["refresh_token"]
    requests["refresh"] = _exchange(
        f"{base}/token", grant_type="refresh_token", refresh_token=refresh_token, client_id=client_id
    )
    ask(requests["refresh"])
    return requests


def authorization_parameters(client_id: str) -> dict[str, str]:
    """Those of an authorization request that asks for no scope."""
    return {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "code_challenge": CODE_CHALLENGE,
        "code_challenge_method": "S256",
        "state": "a-state-as-long-as-the-usual-ones",
    }


def _registration(url: str) -> Request:
    metadata = {
        "redirect_uris": [REDIRECT_URI],
        "token_endpoint_auth_method": "none",
        "client_name": "bench",
    }
    return Request(url=url, status=201, method="POST", body=json.dumps(metadata), content_type="application/json")


def _authorization(url: str, client_id: str, identity_provider: str) -> Request:
    query = {**authorization_parameters(client_id), "scope": "openid profile"}
    return Request(url=f"{url}?{urlencode(query)}", status=302, location=f"{identity_provider}/authorize?")


def _exchange(url: str, **form: str) -> Request:
    return Request(
        url=url,
        status=200,
        method="POST",
        body=urlencode(form),
        content_type="application/x-www-form-urlencoded",
    )
