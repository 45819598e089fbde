"""The doctor's checks of the identity provider."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial

import httpx

from seed_oauth.cli.doctor.access import check_claims
from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, unknown, warning
from seed_oauth.cli.doctor.redirect_uri import check_redirect_uri
from seed_oauth.http import paths
from seed_oauth.identity_provider.discovery import (
    check_issuer,
    find_document,
    metadata_of,
    read_document,
    well_known_urls,
)
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.identity_provider.open import configured_metadata, open_client, publisher
from seed_oauth.outcomes import GrantType
from seed_oauth.settings import PREFIX, Settings

_MOST_CLOCK_SKEW = 60.0  # seconds; token validators commonly allow as much

_WORDS = ("idp_error", "idp_said")

_CREDENTIALS = f"{PREFIX}IDP_CLIENT_ID, {PREFIX}IDP_CLIENT_SECRET and {PREFIX}IDP_TOKEN_AUTH_METHOD"


# RFC 9207 §2.4: with another issuer than that of the metadata the client must refuse the response.
_RELAYED_ISSUER = warning(
    "issuer of responses",
    "the identity provider sends its own iss to clients, many of which refuse it, because this server's is another",
    f"set {PREFIX}FLOW=broker",
)


async def check_identity_provider(
    settings: Settings, transport: httpx.AsyncBaseTransport, now: Callable[[], float]
) -> list[Finding]:
    """All checks that need no login by a user."""
    findings, metadata, headers = await _check_metadata(settings, transport)
    if metadata is None:
        return [*findings, skipped("identity provider", "PKCE, redirect URI, credentials, clock: need its endpoints")]
    findings.append(_check_pkce(settings, metadata))
    if settings.idp_client_id is None:
        return [*findings, skipped("identity provider", f"redirect URI, credentials: need {PREFIX}IDP_CLIENT_ID")]
    if settings.flow == "relay" and metadata.sends_issuer:
        findings.append(_RELAYED_ISSUER)
    redirect_uri, answered = await check_redirect_uri(settings, metadata, transport)
    credentials = await _check_credentials(settings, metadata, transport)
    return [*findings, redirect_uri, credentials, _check_clock({**answered, **headers}, now)]


async def _check_metadata(
    settings: Settings, transport: httpx.AsyncBaseTransport
) -> tuple[list[Finding], ProviderMetadata | None, Mapping[str, str]]:
    configured = configured_metadata(settings)
    if not settings.reads_metadata:
        if configured.authorization_endpoint and configured.token_endpoint:
            return [skipped("IdP metadata", "not needed, the endpoints are set")], configured, {}
        return [skipped("IdP metadata", f"{PREFIX}IDP_ISSUER is not set")], None, {}
    issuer = settings.idp_issuer or ""
    try:
        document, headers = await find_document(issuer, partial(read_document, transport))
    except IdentityProviderError as failure:
        return [_unreadable(issuer, failure)], None, {}
    read = ok("IdP metadata", f"the metadata of {issuer} can be read")
    try:
        check_issuer(document, issuer, publisher(settings))
    except IdentityProviderError as other:
        return [read, failed("issuer", str(other), f"compare {well_known_urls(issuer)[0]}")], None, headers
    try:
        metadata = metadata_of(document, replace(configured, issuer=settings.idp_issuer_claim))
    except IdentityProviderError as unusable:
        return [read, failed("IdP metadata", str(unusable), f"see {well_known_urls(issuer)[0]}")], None, headers
    if metadata.ignored:
        read = warning("IdP metadata", f"ignored in part: {'; '.join(metadata.ignored)}", "set them, or leave them out")
    return [read, _issuer(settings, metadata), *check_claims(settings, document)], metadata, headers


def _unreadable(issuer: str, failure: IdentityProviderError) -> Finding:
    text = f"the metadata cannot be read ({failure})"
    if failure.failure in {IdentityProviderFailure.UNREACHABLE, IdentityProviderFailure.TIMEOUT}:
        return failed(
            "IdP metadata", text, f"make {issuer} reachable from this machine: DNS, firewall, HTTPS_PROXY, certificates"
        )
    return failed(
        "IdP metadata", text, f"correct {PREFIX}IDP_ISSUER: {well_known_urls(issuer)[0]} must be the metadata"
    )


def _issuer(settings: Settings, metadata: ProviderMetadata) -> Finding:
    if settings.allow_everybody and metadata.issuer and "{tenantid}" in metadata.issuer:
        return warning(
            "issuer",
            "the issuer covers every tenant: users of any organization can log in",
            f"set {PREFIX}ALLOWED_TENANTS in place of {PREFIX}ALLOW_EVERYBODY, or {PREFIX}IDP_ISSUER to "
            "https://login.microsoftonline.com/<tenant id>/v2.0",
        )
    return ok("issuer", f"the issuer in the metadata matches {PREFIX}IDP_ISSUER")


def _check_pkce(settings: Settings, metadata: ProviderMetadata) -> Finding:
    if "S256" in metadata.code_challenge_methods:
        return ok("PKCE", "the metadata lists S256")
    if metadata.code_challenge_methods:
        return failed("PKCE", "the metadata does not list S256", "allow S256 at the identity provider")
    if settings.preset and settings.preset.supports_s256:
        return ok("PKCE", f"{settings.preset.name} supports S256, although its metadata does not list it")
    return unknown(
        "PKCE",
        "the metadata does not say whether S256 is supported",
        "check the documentation of the identity provider: without PKCE, a stolen code can be redeemed",
    )


async def _check_credentials(
    settings: Settings, metadata: ProviderMetadata, transport: httpx.AsyncBaseTransport
) -> Finding:
    """Redeem an invalid code: RFC 6749 §5.2 has different errors for wrong credentials and for a wrong code."""
    client = open_client(settings, transport)
    code = {
        "code": secrets.token_urlsafe(32),
        "code_verifier": secrets.token_urlsafe(32),
        "redirect_uri": paths.url(settings.issuer, paths.CALLBACK),
    }
    try:
        await client.exchange(metadata.token_endpoint or "", GrantType.AUTHORIZATION_CODE, code)
    except IdentityProviderError as failure:
        return _credentials(failure)
    return failed(
        "credentials", "the token endpoint accepts an invalid code", f"check that {PREFIX}IDP_TOKEN_URL is correct"
    )


def _credentials(failure: IdentityProviderError) -> Finding:
    said = f": {words}" if (words := ": ".join(str(failure.said[one]) for one in _WORDS if one in failure.said)) else ""
    if failure.failure is not IdentityProviderFailure.REFUSED:
        text = f"the token endpoint gives no usable response ({failure}){said}"
        return failed("credentials", text, f"check {PREFIX}IDP_TOKEN_URL")
    if failure.error == "invalid_grant":
        return ok("credentials", "the token endpoint accepts the credentials")
    if failure.error == "invalid_client":
        return failed(
            "credentials",
            f"the token endpoint refuses the credentials{said}",
            f"compare {_CREDENTIALS} with the client at the identity provider",
        )
    if failure.error in {"unauthorized_client", "unsupported_grant_type"}:
        return failed(
            "credentials",
            f"the client is unknown or may not use the authorization code grant{said}",
            f"check {PREFIX}IDP_CLIENT_ID, and allow the authorization code and refresh token grants for this client",
        )
    text = f"the token endpoint refuses an invalid code without checking them{said}"
    return unknown("credentials", text, "try a login")


def _check_clock(headers: Mapping[str, str], now: Callable[[], float]) -> Finding:
    try:
        skew = now() - parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        return skipped("clock", "the identity provider sends no Date header")
    if abs(skew) > _MOST_CLOCK_SKEW:
        direction = "fast" if skew > 0 else "slow"
        return warning(
            "clock",
            f"the clock is {abs(skew):.0f} s {direction} compared with the identity provider: tokens may be rejected",
            "synchronize the clock of this machine (NTP)",
        )
    return ok("clock", "the clock agrees with the identity provider")
