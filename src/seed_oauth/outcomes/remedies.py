"""The failures that an operator can cause: why each happens, and what helps.

The documentation's "When a login fails", `seed-oauth explain` and the page of the metrics listener have them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from seed_oauth.outcomes.login import AuthorizationOutcome, CallbackOutcome
from seed_oauth.outcomes.resource import ResourceOutcome
from seed_oauth.outcomes.row import Outcome
from seed_oauth.outcomes.tokens import RegistrationOutcome, TokenOutcome


class Remedy(NamedTuple):
    """In Markdown, for the operator."""

    cause: str
    remedy: str


REMEDIES: Mapping[Outcome, Remedy] = {
    AuthorizationOutcome.NOT_CONFIGURED: Remedy(
        "Settings of the identity provider are missing.",
        "`/readyz` names them. Set them and restart.",
    ),
    AuthorizationOutcome.IDP_UNAVAILABLE: Remedy(
        "The metadata at `SEED_OAUTH_IDP_ISSUER` has never been read: the URL is wrong, or the firewall, DNS, "
        "a proxy or a certificate prevents it.",
        "The log line `identity provider metadata not read` says why. Run `seed-oauth doctor` on this host.",
    ),
    AuthorizationOutcome.CLIENT_LOOKUP_FAILED: Remedy(
        "The store cannot be read.",
        "The log line `not ready` of the start, and `seed-oauth doctor`, name the file or the server and the reason.",
    ),
    AuthorizationOutcome.UNKNOWN_CLIENT: Remedy(
        "The store is new: `SEED_OAUTH_STORE_URL` has changed, the volume is not persistent, or each replica "
        "has a file of its own. For a single user: the client was unused for `SEED_OAUTH_CLIENT_DAYS`.",
        "The line `store` at the start says which store is used. Restore the old one, or let users remove the "
        "connection in their client and connect again.",
    ),
    AuthorizationOutcome.BAD_REDIRECT_URI: Remedy(
        "Its `redirect_uris` differ from the one that it sends, often by a slash at the end.",
        "Copy the `redirect_uri` from the address in the browser to `SEED_OAUTH_CLIENTS`.",
    ),
    AuthorizationOutcome.BAD_RESOURCE: Remedy(
        "Clients use another URL of the MCP server than `SEED_OAUTH_RESOURCES` has.",
        "Set `SEED_OAUTH_RESOURCES` to the URL that users enter in their client.",
    ),
    AuthorizationOutcome.CLIENT_DOCUMENT_UNAVAILABLE: Remedy(
        "This host has no way out to the URL in `client_id`: a firewall or a network policy.",
        "Allow HTTPS to that host, or set `SEED_OAUTH_CLIENT_ID_METADATA_DOCUMENTS=false`, so that these "
        "clients register.",
    ),
    AuthorizationOutcome.RATE_LIMITED: Remedy(
        "All users have the address of the reverse proxy or of the office.",
        "Set `SEED_OAUTH_TRUSTED_PROXIES` to the addresses of your proxies, or raise "
        "`SEED_OAUTH_RATE_LIMIT_AUTHORIZE`.",
    ),
    RegistrationOutcome.STORE_FAILED: Remedy(
        "The store cannot be written: a full disk, a file that belongs to another user, a read-only replica.",
        "`seed-oauth doctor` names the reason. Run it as the user of the server.",
    ),
    RegistrationOutcome.QUOTA_EXHAUSTED: Remedy(
        "As many clients are registered as `SEED_OAUTH_CLIENT_QUOTA` allows.",
        "Look at `seed-oauth clients list`, then raise the quota or lower `SEED_OAUTH_CLIENT_DAYS`.",
    ),
    CallbackOutcome.IDP_REFUSED: Remedy(
        "The identity provider does not allow this client the authorization code flow, or one of the "
        "parameters that it is sent.",
        "Allow the grant types `authorization_code` and `refresh_token` for `SEED_OAUTH_IDP_CLIENT_ID`; check "
        "`SEED_OAUTH_IDP_AUTHORIZATION_PARAMETERS`.",
    ),
    CallbackOutcome.IDP_INVALID_SCOPE: Remedy(
        "`SEED_OAUTH_SCOPES` or `SEED_OAUTH_IDP_SCOPES` has a scope that the identity provider does not know, "
        "or does not allow this client.",
        "Correct them, or list the scope in `SEED_OAUTH_IDP_DROPPED_SCOPES`.",
    ),
    CallbackOutcome.IDP_INVALID_TARGET: Remedy(
        "The identity provider does not know the URL of the MCP server as a resource or API.",
        "Register it there, or set `SEED_OAUTH_IDP_SEND_RESOURCE=false`.",
    ),
    CallbackOutcome.BAD_STATE: Remedy(
        "The replicas have different `SEED_OAUTH_SECRET_KEYS`, or the keys were replaced during the login.",
        "Give all replicas the same keys, and add a new key before you remove an old one.",
    ),
    CallbackOutcome.OTHER_BROWSER: Remedy(
        "The login begins at another host name than that of `SEED_OAUTH_ISSUER`, so the cookie is missing; or "
        "the reverse proxy removes cookies.",
        "Use one host name everywhere: in `SEED_OAUTH_ISSUER`, in the registered redirect URI and in the "
        "clients. Pass `Cookie` and `Set-Cookie` on.",
    ),
    CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS: Remedy(
        "`SEED_OAUTH_IDP_CLIENT_SECRET` is wrong or has expired, or is sent in another way than the identity "
        "provider expects.",
        "Set a new secret; try the other value of `SEED_OAUTH_IDP_TOKEN_AUTH_METHOD`. `seed-oauth doctor` checks both.",
    ),
    CallbackOutcome.NO_SUBJECT: Remedy(
        "The identity provider sends no ID token, and nothing else says who has logged in.",
        "Set `SEED_OAUTH_IDP_ISSUER` instead of single URLs, or add `openid` to `SEED_OAUTH_IDP_SCOPES`.",
    ),
    CallbackOutcome.IDP_ID_TOKEN_ALONE: Remedy(
        "Azure AD B2C issues no access token, because no API is among the scopes.",
        "Expose a scope of an API there, and add it to `SEED_OAUTH_IDP_SCOPES`.",
    ),
    CallbackOutcome.IDP_UNAUTHORIZED_CLIENT: Remedy(
        "The identity provider does not allow `SEED_OAUTH_IDP_CLIENT_ID` the grant type `authorization_code`.",
        "Allow `authorization_code` and `refresh_token` there.",
    ),
    CallbackOutcome.IDP_UNSUPPORTED_GRANT_TYPE: Remedy(
        "`SEED_OAUTH_IDP_TOKEN_URL` is another endpoint.",
        "Correct the URL.",
    ),
    CallbackOutcome.IDP_INVALID_REQUEST: Remedy(
        "The identity provider does not take a parameter of the token request, often `resource`.",
        "The log line quotes what it says. Try `SEED_OAUTH_IDP_SEND_RESOURCE=false`.",
    ),
    CallbackOutcome.IDP_UNREACHABLE: Remedy(
        "This host cannot reach the token endpoint: a firewall, DNS, a proxy or a certificate. Browsers can.",
        "Run `seed-oauth doctor` on this host.",
    ),
    CallbackOutcome.STORE_FAILED: Remedy(
        "The store cannot be written, so the tokens cannot wait for the client.",
        "`seed-oauth doctor` names the reason. Run it as the user of the server.",
    ),
    TokenOutcome.NOT_CONFIGURED: Remedy(
        "Settings of the identity provider are missing in this replica.",
        "`/readyz` names them.",
    ),
    TokenOutcome.IDP_REFUSED_OUR_CREDENTIALS: Remedy(
        "`SEED_OAUTH_IDP_CLIENT_SECRET` is wrong or has expired, or is sent in another way than the identity "
        "provider expects.",
        "Set a new secret; try the other value of `SEED_OAUTH_IDP_TOKEN_AUTH_METHOD`. `seed-oauth doctor` checks both.",
    ),
    TokenOutcome.IDP_ID_TOKEN_ALONE: Remedy(
        "Azure AD B2C issues no access token, because no API is among the scopes.",
        "Expose a scope of an API there, and add it to `SEED_OAUTH_IDP_SCOPES`.",
    ),
    TokenOutcome.IDP_UNAUTHORIZED_CLIENT: Remedy(
        "The identity provider does not allow `SEED_OAUTH_IDP_CLIENT_ID` this grant type.",
        "Allow `authorization_code` and `refresh_token` there.",
    ),
    TokenOutcome.IDP_UNSUPPORTED_GRANT_TYPE: Remedy(
        "The identity provider does not offer this grant type, or `SEED_OAUTH_IDP_TOKEN_URL` is another endpoint.",
        "Enable it there, or correct the URL.",
    ),
    TokenOutcome.IDP_UNREACHABLE: Remedy(
        "This host cannot reach the token endpoint: a firewall, DNS, a proxy or a certificate. Browsers can.",
        "Run `seed-oauth doctor` on this host.",
    ),
    TokenOutcome.CLIENT_LOOKUP_FAILED: Remedy(
        "The store cannot be read.",
        "`seed-oauth doctor` names the reason.",
    ),
    TokenOutcome.STORE_FAILED: Remedy(
        "The store cannot be written.",
        "`seed-oauth doctor` names the reason.",
    ),
    TokenOutcome.BAD_CODE: Remedy(
        "The replicas have different `SEED_OAUTH_SECRET_KEYS`.",
        "Give all replicas the same keys.",
    ),
    TokenOutcome.BAD_REFRESH_TOKEN: Remedy(
        "`SEED_OAUTH_SECRET_KEYS` was replaced, or is random because it is not set.",
        "Keep the old key in the list while its tokens are in use.",
    ),
    ResourceOutcome.WRONG_AUDIENCE: Remedy(
        "The identity provider issues its tokens for another audience than the URL of the MCP server.",
        "Set `SEED_OAUTH_IDP_AUDIENCES` to the `aud` of its tokens, or `SEED_OAUTH_ACCESS_TOKENS=own`.",
    ),
    ResourceOutcome.WRONG_ISSUER: Remedy(
        "The `iss` of the tokens is not `SEED_OAUTH_IDP_ISSUER`: another tenant or another version.",
        "Set `SEED_OAUTH_IDP_ISSUER` to the `iss` of the tokens.",
    ),
    ResourceOutcome.TOKEN_NOT_YET_VALID: Remedy(
        "The clock of this host is slow.",
        "Synchronize it (NTP).",
    ),
    ResourceOutcome.INSUFFICIENT_SCOPE: Remedy(
        "`SEED_OAUTH_REQUIRED_SCOPES` has a scope that the identity provider did not grant.",
        "Grant it there, or remove it here. If the second login did not bring it, `scope_not_granted` follows.",
    ),
    ResourceOutcome.SCOPE_NOT_GRANTED: Remedy(
        "`SEED_OAUTH_TOOL_SCOPES`, `SEED_OAUTH_METHOD_SCOPES` or `SEED_OAUTH_REQUIRED_SCOPES` names a scope "
        "that the identity provider does not grant to this user. A client is asked to log in for it once in "
        "ten minutes.",
        "Grant it there, or tell the user that they may not use the tool.",
    ),
    ResourceOutcome.NOT_CONFIGURED: Remedy(
        "Access tokens of the identity provider are JWTs, and its issuer is not set.",
        "Set `SEED_OAUTH_IDP_ISSUER`.",
    ),
    ResourceOutcome.TOKEN_CHECK_REFUSED: Remedy(
        "The identity provider does not let this server introspect tokens.",
        "Allow introspection for `SEED_OAUTH_IDP_CLIENT_ID`, check its secret, or set "
        "`SEED_OAUTH_IDP_INTROSPECTION=false`.",
    ),
    ResourceOutcome.MCP_SERVER_UNREACHABLE: Remedy(
        "Nothing listens at `SEED_OAUTH_MCP_SERVER`, or the network drops connections to it. After three failed "
        "attempts in a row one a second is made, and other requests fail at once.",
        "Start the MCP server or correct the URL; `/readyz` and `seed-oauth doctor` check it.",
    ),
    ResourceOutcome.MCP_SERVER_TIMEOUT: Remedy(
        "The MCP server does not begin its answer within `SEED_OAUTH_MCP_SERVER_TIMEOUT`.",
        "Look at its log, or raise the timeout.",
    ),
    ResourceOutcome.MCP_SERVER_INVALID_RESPONSE: Remedy(
        "`SEED_OAUTH_MCP_SERVER` redirects, often to the same URL with a slash at the end, or is not an HTTP server.",
        "Set it to the URL that answers.",
    ),
}
