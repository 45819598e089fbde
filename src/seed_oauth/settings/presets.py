"""What is known of widely used identity providers, as data: defaults of settings, each with where it is documented.

What the operator sets goes before, always; `SEED_OAUTH_IDP_PRESET=none` switches presets off.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RESOURCE = "{resource}"
"""Value of an authorization parameter that stands for the resource that the client asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of identity provider."""

    name: str
    hosts: tuple[str, ...] = ()
    """The hosts of its issuers; one that starts with a dot stands for every host below it. None means any host."""
    paths: tuple[str, ...] = ("",)
    """What the paths of its issuers begin with."""
    defaults: Mapping[str, object]
    """Settings that are different here. Parameters are added to those that are set, the rest gives way to them."""
    has_metadata: bool = True
    """False where all endpoints are among the defaults, and nothing is read."""
    supports_s256: bool = False
    """Whether PKCE with S256 works although the metadata does not say so."""
    published_issuers: Mapping[str, str] = field(default_factory=dict)
    """Issuers whose metadata names another one, and which: the exceptions from RFC 8414 §3.3."""
    error_codes: Mapping[str, str] = field(default_factory=dict)
    """Error codes of its own at the token endpoint, and what they are called in RFC 6749 §5.2."""
    scope_separator: str = " "
    """What is between the scopes that it says it granted; in RFC 6749 §3.3 a space."""

    def recognises(self, issuer: str) -> bool:
        """Whether this is the issuer of such an identity provider."""
        url = urlsplit(issuer)
        host = url.hostname or ""
        known = not self.hosts or any(host == one or (one[0] == "." and host.endswith(one)) for one in self.hosts)
        return known and url.path.startswith(self.paths)

    def fill_in(self, values: MutableMapping[str, object]) -> None:
        """Add the defaults to the values of settings, where there are none."""
        for name, default in self.defaults.items():
            given = values.get(name)
            if given is None:
                values[name] = default
            elif isinstance(default, dict) and isinstance(given, dict):
                values[name] = {**default, **given}


def find(name: object, issuer: object) -> Preset | None:
    """The preset that is named, or for `auto` and nothing the one that the issuer is recognised by."""
    if name is None or name == "auto":
        return next((preset for preset in PRESETS if isinstance(issuer, str) and preset.recognises(issuer)), None)
    return next((preset for preset in PRESETS if preset.name == name), None)


ENTRA = Preset(
    name="entra",
    # https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
    hosts=("login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"),
    defaults={
        # "AADSTS901002: The 'resource' request parameter is not supported", at authorize and token alike; since
        # March 2026 AADSTS9010010. The resource is part of the scope:
        # https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
        # https://github.com/modelcontextprotocol/csharp-sdk/issues/741
        "idp_send_resource": False,
        # Its metadata offers client_secret_post and private_key_jwt:
        # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
        "idp_token_auth_method": "client_secret_post",
        # A request without scope is refused, and a refresh token comes with offline_access only:
        # https://learn.microsoft.com/entra/identity-platform/scopes-oidc
        "idp_scopes": ("openid", "offline_access"),
    },
    # Its metadata has no code_challenge_methods_supported, but S256 is documented:
    # https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
    # https://github.com/vercel/ai/issues/18674
    supports_s256=True,
    # For more than one tenant the issuer is a template, and `consumers` is the name of a tenant:
    # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
    # https://github.com/MicrosoftDocs/azure-docs/issues/38427
    published_issuers={
        "https://login.microsoftonline.com/common/v2.0": "https://login.microsoftonline.com/{tenantid}/v2.0",
        "https://login.microsoftonline.com/organizations/v2.0": "https://login.microsoftonline.com/{tenantid}/v2.0",
        "https://login.microsoftonline.com/consumers/v2.0": (
            "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
        ),
    },
)

GOOGLE = Preset(
    name="google",
    hosts=("accounts.google.com",),
    defaults={
        # `resource` is not among the parameters: https://developers.google.com/identity/protocols/oauth2/web-server
        "idp_send_resource": False,
        # The same page: a refresh token comes with access_type=offline, and again only after consent.
        "idp_authorization_parameters": {"access_type": "offline", "prompt": "consent"},
        # The same page has the credentials in the form.
        "idp_token_auth_method": "client_secret_post",
        # A request without scope is refused: https://developers.google.com/identity/openid-connect/openid-connect
        "idp_scopes": ("openid",),
        # "Some requested scopes were invalid. {… invalid=[offline_access]}", error 400 invalid_scope:
        # https://github.com/giantswarm/mcp-oauth/issues/156
        "idp_dropped_scopes": ("offline_access",),
        # Its access tokens are opaque and for Google's own APIs:
        # https://developers.google.com/identity/protocols/oauth2#size
        "access_tokens": "own",
    },
)

OKTA = Preset(
    name="okta",
    hosts=(".okta.com", ".oktapreview.com", ".okta-emea.com"),
    defaults={
        # "Okta does not support dynamic audience switching …, nor does it support the resource claim (RFC 8707)":
        # the audience is a property of the authorization server, so there is no parameter for it.
        # https://support.okta.com/help/s/article/oidc-does-okta-support-the-resource-parameter-and-audience-switching
        "idp_send_resource": False,
        # https://developer.okta.com/docs/guides/refresh-tokens/main/ (offline_access at /authorize)
        "idp_scopes": ("openid", "offline_access"),
    },
)

AUTH0 = Preset(
    name="auth0",
    hosts=(".auth0.com",),
    defaults={
        # "Auth0 will use the resource parameter …; if both are available, the audience will still be used", and
        # without its compatibility profile `audience` alone counts:
        # https://auth0.com/ai/docs/mcp/guides/resource-param-compatibility-profile
        "idp_authorization_parameters": {"audience": RESOURCE},
        # Passed on to a federated Entra, `resource` ended the login:
        # https://github.com/modelcontextprotocol/modelcontextprotocol/issues/1389
        "idp_send_resource": False,
        # The default of an application: https://auth0.com/docs/get-started/applications/application-settings
        "idp_token_auth_method": "client_secret_post",
        # https://auth0.com/docs/secure/tokens/refresh-tokens/get-refresh-tokens
        "idp_scopes": ("openid", "offline_access"),
    },
)

KEYCLOAK = Preset(
    name="keycloak",
    # Any host; below /auth where http-relative-path is set so: https://www.keycloak.org/server/all-config
    paths=("/realms/", "/auth/realms/"),
    defaults={
        # A client's first scope; refresh tokens come without being asked for:
        # https://www.keycloak.org/securing-apps/oidc-layers
        "idp_scopes": ("openid",),
        # It would make each login an offline session, which outlives logout and never expires by default:
        # https://www.keycloak.org/docs/latest/server_admin/#_offline-access
        "idp_dropped_scopes": ("offline_access",),
    },
)

GITHUB = Preset(
    name="github",
    hosts=("github.com",),
    paths=("/login/oauth",),
    defaults={
        # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
        "idp_authorization_url": "https://github.com/login/oauth/authorize",
        "idp_token_url": "https://github.com/login/oauth/access_token",
        # The same page: client_id and client_secret are parameters; `resource` is none.
        "idp_token_auth_method": "client_secret_post",
        "idp_send_resource": False,
        # Not among https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
        "idp_dropped_scopes": ("openid", "profile", "email", "offline_access"),
        # Its access tokens are opaque, and good for GitHub's API:
        # https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
        "access_tokens": "own",
    },
    has_metadata=False,
    # https://github.blog/changelog/2025-07-14-pkce-support-for-oauth-and-github-app-authentication
    supports_s256=True,
    # They come with status 200:
    # https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
    # https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
    error_codes={
        "bad_verification_code": "invalid_grant",
        "redirect_uri_mismatch": "invalid_grant",
        "bad_refresh_token": "invalid_grant",
        "unverified_user_email": "invalid_grant",
        "incorrect_client_credentials": "invalid_client",
    },
    # "access_token=gho_…&scope=repo%2Cgist&token_type=bearer":
    # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
    scope_separator=",",
)

PRESETS = (ENTRA, GOOGLE, OKTA, AUTH0, KEYCLOAK, GITHUB)
