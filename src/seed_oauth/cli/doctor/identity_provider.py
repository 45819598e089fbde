"""What the doctor asks the identity provider."""

import secrets
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, unknown, warning
from seed_oauth.cli.doctor.redirect_uri import check_redirect_uri
from seed_oauth.http import paths
from seed_oauth.http_client.transport import AuthenticatedTransport
from seed_oauth.identity_provider.client import HttpIdentityProvider, IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.discovery import check_issuer, fetch, find_document, metadata_of, well_known_urls
from seed_oauth.identity_provider.metadata import ConfiguredMetadata, ProviderMetadata
from seed_oauth.outcomes import GrantType
from seed_oauth.settings import PREFIX, Settings

_MOST_CLOCK_SKEW = 60.0  # seconds; verifiers of tokens commonly allow as much

_CREDENTIALS = f"{PREFIX}IDP_CLIENT_ID, {PREFIX}IDP_CLIENT_SECRET and {PREFIX}IDP_TOKEN_AUTH_METHOD"


async def check_identity_provider(
    settings: Settings, transport: httpx.AsyncBaseTransport, now: Callable[[], float]
) -> list[Finding]:
    """Everything that can be asked without a person who logs in."""
    findings, metadata, headers = await _check_metadata(settings, transport)
    if metadata is None:
        return [*findings, skipped("identity provider", "PKCE, redirect URI, credentials and clock need its endpoints")]
    findings.append(_check_pkce(settings, metadata))
    if settings.idp_client_id is None:
        return [*findings, skipped("identity provider", f"redirect URI and credentials need {PREFIX}IDP_CLIENT_ID")]
    redirect_uri, answered = await check_redirect_uri(settings, metadata, transport)
    credentials = await _check_credentials(settings, metadata, transport)
    return [*findings, redirect_uri, credentials, _check_clock({**answered, **headers}, now)]


async def _check_metadata(
    settings: Settings, transport: httpx.AsyncBaseTransport
) -> tuple[list[Finding], ProviderMetadata | None, Mapping[str, str]]:
    if not settings.reads_metadata:
        metadata = await ConfiguredMetadata(settings).get()
        if metadata.authorization_endpoint and metadata.token_endpoint:
            return [skipped("metadata", "the endpoints are set, nothing is read")], metadata, {}
        return [skipped("metadata", f"{PREFIX}IDP_ISSUER is not set")], None, {}
    issuer = settings.idp_issuer or ""
    try:
        document, headers = await find_document(issuer, partial(fetch, transport))
    except IdentityProviderError as failure:
        return [_unreadable(issuer, failure)], None, {}
    read = ok("metadata", f"it can be read: {issuer}")
    try:
        check_issuer(document, settings)
    except IdentityProviderError as other:
        return [read, failed("issuer", str(other), f"read it at {well_known_urls(issuer)[0]}")], None, headers
    try:
        metadata = metadata_of(document, settings)
    except IdentityProviderError as unusable:
        return [read, failed("metadata", str(unusable), f"see {well_known_urls(issuer)[0]}")], None, headers
    return [read, _issuer(metadata)], metadata, headers


def _unreadable(issuer: str, failure: IdentityProviderError) -> Finding:
    text = f"it cannot be read ({failure})"
    if failure.failure in {IdentityProviderFailure.UNREACHABLE, IdentityProviderFailure.TIMEOUT}:
        return failed(
            "metadata", text, f"see that this machine reaches {issuer}: name, firewall, HTTPS_PROXY, certificates"
        )
    return failed("metadata", text, f"set {PREFIX}IDP_ISSUER so that {well_known_urls(issuer)[0]} is the metadata")


def _issuer(metadata: ProviderMetadata) -> Finding:
    if metadata.issuer and "{tenantid}" in metadata.issuer:
        return warning(
            "issuer",
            "it is for every tenant: anybody with an account of any organization can log in",
            f"set {PREFIX}IDP_ISSUER to https://login.microsoftonline.com/<tenant id>/v2.0, if one is meant",
        )
    return ok("issuer", f"the metadata names the issuer that {PREFIX}IDP_ISSUER does")


def _check_pkce(settings: Settings, metadata: ProviderMetadata) -> Finding:
    if "S256" in metadata.code_challenge_methods:
        return ok("PKCE", "the metadata lists S256")
    if metadata.code_challenge_methods:
        return failed("PKCE", "the metadata lists other methods than S256", "allow S256 at the identity provider")
    if settings.preset and settings.preset.supports_s256:
        return ok("PKCE", f"S256 is known to work with {settings.preset.name}, though no metadata says so")
    return unknown(
        "PKCE",
        "the identity provider does not say whether it supports S256",
        "look it up in its documentation: without PKCE there, a stolen code can be redeemed",
    )


async def _check_credentials(
    settings: Settings, metadata: ProviderMetadata, transport: httpx.AsyncBaseTransport
) -> Finding:
    """Redeem a made-up code: RFC 6749 §5.2 has a word for wrong credentials and another one for a wrong code."""
    client = HttpIdentityProvider(settings, AuthenticatedTransport(settings, transport))
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
        "credentials", "it gave a token for a made-up code", f"see that {PREFIX}IDP_TOKEN_URL is the real one"
    )


def _credentials(failure: IdentityProviderError) -> Finding:
    if failure.failure is not IdentityProviderFailure.REFUSED:
        return failed(
            "credentials", f"the token endpoint has no usable answer ({failure})", f"check {PREFIX}IDP_TOKEN_URL"
        )
    if failure.error == "invalid_grant":
        return ok("credentials", "it refuses a made-up code, not the credentials")
    if failure.error == "invalid_client":
        return failed("credentials", "it refuses the credentials", f"check {_CREDENTIALS} against what it shows")
    if failure.error in {"unauthorized_client", "unsupported_grant_type"}:
        return failed(
            "credentials",
            "it does not know the client, or does not allow it the authorization code grant",
            f"check {PREFIX}IDP_CLIENT_ID, and allow the grants authorization code and refresh token there",
        )
    return unknown("credentials", "it refuses a made-up code before it looks at the credentials", "try a login")


def _check_clock(headers: Mapping[str, str], now: Callable[[], float]) -> Finding:
    try:
        skew = now() - parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        return skipped("clock", "the identity provider does not say what time it is")
    if abs(skew) > _MOST_CLOCK_SKEW:
        direction = "fast" if skew > 0 else "slow"
        return warning(
            "clock",
            f"it is {abs(skew):.0f} s {direction} by the identity provider's: tokens seem expired or not yet valid",
            "synchronize the clock of this machine (NTP)",
        )
    return ok("clock", "it agrees with the identity provider's")
