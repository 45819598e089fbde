"""The doctor's check whether the redirect URI is registered at the identity provider.

No standard defines how an invalid redirect URI is refused, only that it must not be followed (RFC 6749 §3.1.2.4).
Some identity providers respond with 400, some with a page of status 200, some check it only after the login. So the
authorization request is sent twice, the second time with an unregistered redirect URI, and the responses are compared.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, quoted, skipped, unknown
from seed_oauth.container import idp_parameters
from seed_oauth.flows.scopes import idp_scopes
from seed_oauth.http import paths
from seed_oauth.http.parameters import add_to_query
from seed_oauth.http_client.fetch import send
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.settings import PREFIX, Settings

_CHECK = "redirect URI"

# Text of error pages; other pages may contain it too.
_WORDS = (b"redirect_uri", b"redirect uri", b"redirect_uri_mismatch", b"callback url mismatch", b"aadsts50011")
_CERTAIN_WORDS = frozenset(_WORDS[2:])  # Google, Auth0, Entra ID; Entra ID with status 200

_LONGEST_PAGE = 4 << 20  # bytes; login pages include scripts

# Errors that are sent to a valid redirect URI.
_OF_PROMPT = frozenset({"login_required", "consent_required", "interaction_required", "account_selection_required"})


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    location: str
    words: frozenset[bytes]
    """The texts of error pages that the page contains."""

    @property
    def refuses(self) -> bool:
        """Whether it is certainly an error. Google redirects to its own page `/error`."""
        redirected = urlsplit(self.location).path.rstrip("/").endswith("/error")
        return redirected or self.status >= httpx.codes.BAD_REQUEST or bool(self.words & _CERTAIN_WORDS)


async def check_redirect_uri(
    settings: Settings, metadata: ProviderMetadata, transport: httpx.AsyncBaseTransport
) -> tuple[Finding, Mapping[str, str]]:
    """The finding, and the headers of the response."""
    if settings.flow == "relay":
        return skipped(_CHECK, "in the relay flow each client has its own"), {}
    ours = paths.url(settings.issuer, paths.CALLBACK)
    try:
        answer, headers = await _ask(settings, metadata, transport, ours)
        control, _ = await _ask(settings, metadata, transport, f"{ours}-{secrets.token_hex(4)}")
    except httpx.TransportError as failure:
        remedy = f"check {PREFIX}IDP_AUTHORIZATION_URL"
        return failed(_CHECK, f"the authorization endpoint gives no usable response ({failure})", remedy), {}
    return _judge(ours, answer, control), headers


async def _ask(
    settings: Settings, metadata: ProviderMetadata, transport: httpx.AsyncBaseTransport, redirect_uri: str
) -> tuple[_Answer, Mapping[str, str]]:
    """Send the authorization request that a browser would bring for a client, without following redirects."""
    scopes = idp_scopes(settings).asked_for(" ".join(settings.advertised_scopes), metadata.default_scopes)
    sent = idp_parameters(settings).login(
        settings.protected_resources[0],
        scopes,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(16),
        code_challenge=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(16),
    )
    url = add_to_query(metadata.authorization_endpoint or "", sent)
    headers = {"Accept": "text/html", "Accept-Encoding": "identity", "User-Agent": "seed-oauth doctor"}
    request = httpx.Request("GET", url, headers=headers)
    status, answered, body = await send(transport, request, limit=_LONGEST_PAGE)
    page = body.lower()
    words = frozenset(word for word in _WORDS if word in page)
    return _Answer(status, answered.get("location", ""), words), answered


def _judge(ours: str, answer: _Answer, control: _Answer) -> Finding:
    register = f"register {ours} as a redirect URI at the identity provider, exactly as written here"
    cannot_tell = unknown(
        _CHECK,
        "the identity provider responds in the same way to an unregistered redirect URI",
        f"try a login; if it fails at the identity provider, {register}",
    )
    if answer.location.startswith(ours):
        return _sent_back(answer.location)
    if answer.status >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return unknown(_CHECK, f"the authorization endpoint responds with {answer.status}", "run this again later")
    if answer.refuses and answer.words:
        return failed(_CHECK, "the identity provider refuses the redirect URI", register)
    if answer.refuses:
        return failed(
            _CHECK, "the identity provider refuses the request", f"check {PREFIX}IDP_CLIENT_ID, and {register}"
        )
    if control.refuses or control.words > answer.words:
        return ok(_CHECK, f"{ours} is accepted, an unregistered one is refused")
    return cannot_tell


def _sent_back(location: str) -> Finding:
    """The identity provider redirected to the redirect URI, so it is registered."""
    answered = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    error = answered.get("error", "")
    if not error or error in _OF_PROMPT:
        return ok(_CHECK, "the redirect URI is accepted")
    remedy = f"allow the authorization code flow for {PREFIX}IDP_CLIENT_ID at the identity provider"
    what = "request"
    if error == "invalid_scope":
        what = "scopes"
        remedy = f"set {PREFIX}IDP_SCOPES and {PREFIX}SCOPES to scopes that this client may request"
        remedy += f", or have others dropped with {PREFIX}IDP_DROPPED_SCOPES"
    elif error == "invalid_target":
        what = "resource"
        remedy = f"set {PREFIX}IDP_SEND_RESOURCE=false, or register {PREFIX}RESOURCES at the identity provider"
    refused = "is" if what != "scopes" else "are"
    return failed(_CHECK, f"the redirect URI is accepted, but the {what} {refused} refused: {quoted(answered)}", remedy)
