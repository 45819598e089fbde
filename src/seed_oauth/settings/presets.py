"""Presets for widely used identity providers: defaults of settings, each with a link to its documentation.

Settings of the operator always override a preset; `SEED_OAUTH_IDP_PRESET=none` switches presets off.
"""

from typing import Literal

from seed_oauth.settings.preset import RULE_SCOPES, Preset

__all__ = ["PRESETS", "RESOURCE", "RULE_SCOPES", "Name", "find"]

Name = Literal[
    "auto", "none", "entra", "b2c", "google", "okta", "auth0", "keycloak", "github", "cognito", "authentik", "zitadel"
]

RESOURCE = "{resource}"
"""Value of an authorization parameter that is replaced by the requested resource."""


def find(name: object, issuer: object) -> Preset | None:
    """The preset with this name; with `auto` or None, the one that recognises the issuer."""
    if name is None or name == "auto":
        return next((preset for preset in PRESETS if isinstance(issuer, str) and preset.recognises(issuer)), None)
    return next((preset for preset in PRESETS if preset.name == name), None)


ENTRA = Preset(
    name="entra",
    # https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
    # https://learn.microsoft.com/entra/external-id/customers/how-to-custom-url-domain (ciamlogin.com)
    hosts=(
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "*.ciamlogin.com",
    ),
    defaults={
        # "AADSTS901002: The 'resource' request parameter is not supported", at both endpoints; since
        # March 2026 AADSTS9010010. The resource is part of the scope:
        # https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
        # https://github.com/modelcontextprotocol/csharp-sdk/issues/741
        "idp_send_resource": False,
        # Its metadata offers client_secret_post and private_key_jwt:
        # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
        "idp_token_auth_method": "client_secret_post",
        # A request without scope is refused, and refresh tokens require offline_access:
        # https://learn.microsoft.com/entra/identity-platform/scopes-oidc
        "idp_scopes": ("openid", "offline_access"),
        # https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference (tid)
        "idp_tenant_claim": "tid",
    },
    # Its metadata has no code_challenge_methods_supported, but S256 is documented:
    # https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
    # https://github.com/vercel/ai/issues/18674
    supports_s256=True,
    # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#find-your-apps-openid-configuration-document-uri
    open_to_anybody=r"https://login\.[^/]+/(common|organizations|consumers)(/.*)?",
    # It is on Microsoft Graph, whose access tokens are others.
    has_userinfo=False,
    # `email` is what the user or an administrator of any tenant has written, unless the optional claim says otherwise:
    # https://learn.microsoft.com/entra/identity-platform/migrate-off-email-claim-authorization
    email_verified_claim="xms_edov",
    selects_account=True,
    # For more than one tenant the issuer is a template, and `consumers` is the name of a tenant:
    # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
    # https://github.com/MicrosoftDocs/azure-docs/issues/38427
    # At ciamlogin.com the metadata has the tenant's ID as the host, whatever its name is:
    # https://github.com/AzureAD/microsoft-authentication-library-for-js/issues/8592
    published_issuers={
        r"https://login\.microsoftonline\.com/(common|organizations)/v2\.0": (
            "https://login.microsoftonline.com/{tenantid}/v2.0"
        ),
        r"https://login\.microsoftonline\.com/consumers/v2\.0": (
            "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
        ),
        r"https://[^/]+\.ciamlogin\.com/[^/]+/v2\.0": "https://{guid}.ciamlogin.com/{guid}/v2.0",
    },
)

B2C = Preset(
    name="b2c",
    # https://learn.microsoft.com/azure/active-directory-b2c/b2clogin
    hosts=("*.b2clogin.com",),
    defaults={
        # Not among the parameters; the scope names the API:
        # https://learn.microsoft.com/azure/active-directory-b2c/authorization-code-flow
        "idp_send_resource": False,
        # The same page has the credentials in the form.
        "idp_token_auth_method": "client_secret_post",
        # A request without scope is refused (AADB2C90010), and there is an access token only for an API among them:
        # https://learn.microsoft.com/azure/active-directory-b2c/error-codes
        # https://learn.microsoft.com/azure/active-directory-b2c/access-tokens
        "idp_scopes": ("openid", "offline_access"),
    },
    # https://learn.microsoft.com/azure/active-directory-b2c/authorization-code-flow (code_challenge_method)
    supports_s256=True,
    # Its claim `emails` does not say which are verified:
    # https://learn.microsoft.com/azure/active-directory-b2c/user-profile-attributes
    lacks=frozenset({"email"}),
    has_userinfo=False,
    # The metadata of a user flow has the tenant's ID and not the flow, unless that is set ("Compatibility"):
    # https://learn.microsoft.com/azure/active-directory-b2c/tokens-overview
    # https://github.com/coreos/go-oidc/issues/121
    published_issuers={r"https://[^/]+\.b2clogin\.com/[^/]+/[^/]+/v2\.0/?": "https://{host}/{guid}/v2.0/"},
)

GOOGLE = Preset(
    name="google",
    hosts=("accounts.google.com",),
    defaults={
        # `resource` is not a parameter: https://developers.google.com/identity/protocols/oauth2/web-server
        "idp_send_resource": False,
        # The same page: refresh tokens require access_type=offline, and further ones a new consent.
        "idp_authorization_parameters": {"access_type": "offline", "prompt": "consent"},
        # The same page sends the credentials in the form.
        "idp_token_auth_method": "client_secret_post",
        # A request without scope is refused: https://developers.google.com/identity/openid-connect/openid-connect
        "idp_scopes": ("openid",),
        # "Some requested scopes were invalid. {… invalid=[offline_access]}", error 400 invalid_scope:
        # https://github.com/giantswarm/mcp-oauth/issues/156
        "idp_dropped_scopes": ("offline_access",),
        # "email" and "profile" come back with these names:
        # https://developers.google.com/identity/protocols/oauth2/scopes#oauth2
        "scope_hierarchy": {
            "https://www.googleapis.com/auth/userinfo.email": ("email",),
            "https://www.googleapis.com/auth/userinfo.profile": ("profile",),
        },
        # Its access tokens are opaque and for Google's own APIs:
        # https://developers.google.com/identity/protocols/oauth2#size
        "access_tokens": "own",
        # The domain of a Workspace account: https://developers.google.com/identity/openid-connect/openid-connect#hd-param
        "idp_tenant_claim": "hd",
    },
    open_to_anybody=".*",
    # Not among the claims in https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload
    lacks=frozenset({"groups", "roles"}),
    # https://developers.google.com/identity/openid-connect/openid-connect#authenticationuriparameters
    selects_account=True,
)

OKTA = Preset(
    name="okta",
    hosts=("*.okta.com", "*.oktapreview.com", "*.okta-emea.com", "*.okta-gov.com", "*.okta.mil"),
    defaults={
        # "Okta does not support dynamic audience switching …, nor does it support the resource claim (RFC 8707)":
        # the audience is a property of the authorization server, so there is no parameter for it.
        # https://support.okta.com/help/s/article/oidc-does-okta-support-the-resource-parameter-and-audience-switching
        "idp_send_resource": False,
        # https://developer.okta.com/docs/guides/refresh-tokens/main/ (offline_access at /authorize)
        "idp_scopes": ("openid", "offline_access"),
    },
    # https://developer.okta.com/docs/guides/customize-tokens-groups-claim/main/
    rule_scopes={**RULE_SCOPES, "groups": ("groups",)},
)

AUTH0 = Preset(
    name="auth0",
    hosts=("*.auth0.com",),
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
        # https://auth0.com/docs/manage-users/organizations/using-tokens
        "idp_tenant_claim": "org_id",
    },
    # New users can sign up unless that is disabled: https://auth0.com/docs/authenticate/database-connections
    open_to_anybody=".*",
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
        # The token claim name of the mapper `realm roles`, which has to be added to the ID token or userinfo first.
        "idp_roles_claim": "realm_access.roles",
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
        # https://docs.github.com/en/rest/users/users#get-the-authenticated-user
        "idp_userinfo_url": "https://api.github.com/user",
        # The same page: client_id and client_secret are parameters, `resource` is not.
        "idp_token_auth_method": "client_secret_post",
        "idp_send_resource": False,
        # Not among https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
        "idp_dropped_scopes": ("openid", "profile", "email", "offline_access"),
        # Its access tokens are opaque and for GitHub's API:
        # https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
        "access_tokens": "own",
    },
    has_metadata=False,
    # https://github.blog/changelog/2025-07-14-pkce-support-for-oauth-and-github-app-authentication
    supports_s256=True,
    # Its errors have status 200:
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
    open_to_anybody=".*",
    lacks=frozenset({"groups", "roles", "tenant"}),
    # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
    rule_scopes={"email": ("user:email",), "github_orgs": ("read:org",), "github_teams": ("read:org",)},
    # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps (prompt)
    selects_account=True,
)

COGNITO = Preset(
    name="cognito",
    # https://docs.aws.amazon.com/cognito/latest/developerguide/federation-endpoints.html
    hosts=("cognito-idp.*.amazonaws.com", "cognito-idp.*.amazonaws.com.cn"),
    defaults={
        # Only where the tier is Essentials or Plus, and the resource is registered:
        # https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-define-resource-servers.html
        "idp_send_resource": False,
        # https://docs.aws.amazon.com/cognito/latest/developerguide/authorization-endpoint.html
        "idp_scopes": ("openid",),
        # Not among the scopes there, and refresh tokens come without it:
        # https://docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html
        "idp_dropped_scopes": ("offline_access",),
        # https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-id-token.html
        "idp_groups_claim": "cognito:groups",
    },
    # Its metadata has no code_challenge_methods_supported, but S256 is documented:
    # https://docs.aws.amazon.com/cognito/latest/developerguide/using-pkce-in-authorization-code.html
    supports_s256=True,
)

AUTHENTIK = Preset(
    name="authentik",
    # Any host; every provider has an issuer of its own by default:
    # https://docs.goauthentik.io/add-secure-apps/providers/oauth2/
    paths=("/application/o/",),
    defaults={
        # The same page: refresh tokens come with offline_access only.
        "idp_scopes": ("openid", "offline_access"),
    },
    # The same page: the scope `profile` has the groups.
    rule_scopes={**RULE_SCOPES, "groups": ("profile",)},
)

ZITADEL = Preset(
    name="zitadel",
    # https://zitadel.com/docs/apis/openidoauth/endpoints
    hosts=("*.zitadel.cloud",),
    defaults={
        # https://zitadel.com/docs/apis/openidoauth/scopes (offline_access for refresh tokens)
        "idp_scopes": ("openid", "offline_access"),
        # https://zitadel.com/docs/apis/openidoauth/claims
        "idp_groups_claim": "urn:zitadel:iam:org:project:roles",
        "idp_tenant_claim": "urn:zitadel:iam:user:resourceowner:id",
    },
    rule_scopes={
        **RULE_SCOPES,
        "groups": ("urn:zitadel:iam:org:projects:roles",),
        "tenant": ("urn:zitadel:iam:user:resourceowner",),
    },
)

PRESETS = (ENTRA, B2C, GOOGLE, OKTA, AUTH0, KEYCLOAK, GITHUB, COGNITO, AUTHENTIK, ZITADEL)
