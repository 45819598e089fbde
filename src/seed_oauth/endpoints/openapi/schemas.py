"""The component schemas of the OpenAPI document: requests and responses with the names of the RFCs."""

from collections.abc import Mapping

from seed_oauth.outcomes import GrantType

Schema = Mapping[str, object]

TEXT: Schema = {"type": "string"}
# RFC 6749 appendix A: VSCHAR, the characters of its parameters
VISIBLE: Schema = {"type": "string", "minLength": 1, "pattern": r"^[ -~]+$"}
URI: Schema = {"type": "string", "format": "uri"}
_HTTPS: Schema = {**URI, "pattern": r"^https://[!#-;=?-\[\]_a-z~]+$", "maxLength": 2048}
# Printable text in any script.
_LABEL: Schema = {"type": "string", "maxLength": 256}
_INTEGER: Schema = {"type": "integer"}
_TEXTS: Schema = {"type": "array", "items": TEXT}
_URIS: Schema = {"type": "array", "items": URI}

# RFC 6749 §3.3
SCOPE: Schema = {"type": "string", "pattern": r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$", "examples": ["mail files"]}
RESOURCE: Schema = {**URI, "description": "The MCP server that the token is for (RFC 8707)."}
# RFC 7636 §4.1, §4.2
PKCE: Schema = {"type": "string", "minLength": 43, "maxLength": 128, "pattern": r"^[A-Za-z0-9\-._~]+$"}
REDIRECT_URI: Schema = {**URI, "description": "A registered redirect URI; on loopback the port may differ."}
CLIENT_ID: Schema = {
    **VISIBLE,
    "description": "From the registration or the settings, or the https URL of a Client ID Metadata Document.",
}


def described(schema: Schema, description: str) -> Schema:
    """The schema with another description."""
    return {**schema, "description": description}


def of_object(properties: Mapping[str, Schema], *required: str, **further: object) -> Schema:
    """The schema of an object; unknown members are ignored."""
    return {"type": "object", "properties": properties, "required": list(required), **further}


AUTHORIZATION_REQUEST = of_object(
    {
        "response_type": {"const": "code"},
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "code_challenge": described(PKCE, "The SHA-256 of the code_verifier, in base64url (RFC 7636 §4.2)."),
        "code_challenge_method": {"const": "S256"},
        "state": described(VISIBLE, "Returned unchanged."),
        "scope": SCOPE,
        "resource": RESOURCE,
    },
    "response_type",
    "client_id",
    "redirect_uri",
    "code_challenge",
    "code_challenge_method",
    description="An authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).",
)

CONSENT_DECISION = of_object(
    {
        "request": described(VISIBLE, "The encrypted request from the form of the consent page."),
        "decision": {"enum": ["approve", "deny"]},
        "remember": described(VISIBLE, "Any value: do not ask again in this browser."),
    },
    "request",
    "decision",
    description="The decision on the consent page, from the browser that it was shown in.",
)

ACCOUNT_FORM = of_object(
    {
        "request": described(VISIBLE, "The encrypted request from the form of the account page."),
        "grant": described(VISIBLE, "The ID of the grant to revoke, or `all`."),
    },
    "request",
    "grant",
    description="What to revoke, from the browser that the account page was shown in.",
)

# RFC 6749 §2.3.1, RFC 7521 §4.2; omitted with an Authorization header.
_CLIENT: Mapping[str, Schema] = {
    "client_id": CLIENT_ID,
    "client_secret": described(VISIBLE, "For client_secret_post."),
    "client_assertion": described(VISIBLE, "A signed JWT, for private_key_jwt."),
    "client_assertion_type": {"const": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
}
_ONE_AUTH_METHOD: Mapping[str, object] = {
    "dependentRequired": {
        "client_secret": ["client_id"],
        "client_assertion": ["client_assertion_type"],
        "client_assertion_type": ["client_assertion"],
    },
    # RFC 6749 §2.3
    "not": {"required": ["client_secret", "client_assertion"]},
}

CODE_REQUEST = of_object(
    {
        "grant_type": {"const": GrantType.AUTHORIZATION_CODE.value},
        "code": VISIBLE,
        "code_verifier": described(PKCE, "Belongs to the code_challenge of the authorization request (RFC 7636 §4.5)."),
        "redirect_uri": described(URI, "If present, that of the authorization request."),
        "resource": RESOURCE,
        **_CLIENT,
    },
    "grant_type",
    "code",
    "code_verifier",
    description="Exchange a code, once (RFC 6749 §4.1.3).",
    **_ONE_AUTH_METHOD,
)

REFRESH_REQUEST = of_object(
    {
        "grant_type": {"const": GrantType.REFRESH_TOKEN.value},
        "refresh_token": VISIBLE,
        "scope": described(SCOPE, "A subset of the granted scope."),
        "resource": RESOURCE,
        **_CLIENT,
    },
    "grant_type",
    "refresh_token",
    description="Refresh tokens (RFC 6749 §6).",
    **_ONE_AUTH_METHOD,
)

REVOCATION_REQUEST = of_object(
    {
        "token": VISIBLE,
        "token_type_hint": described(VISIBLE, "access_token or refresh_token, if known."),
        **_CLIENT,
    },
    "token",
    description="Revoke a token (RFC 7009 §2.1).",
    **_ONE_AUTH_METHOD,
)

INTROSPECTION_REQUEST: Schema = {**REVOCATION_REQUEST, "description": "Ask about an access token (RFC 7662 §2.1)."}

INTROSPECTION_RESPONSE = of_object(
    {
        "active": {"type": "boolean"},
        **dict.fromkeys(("iss", "sub", "aud", "client_id", "scope", "token_type"), TEXT),
        "exp": _INTEGER,
        "iat": _INTEGER,
    },
    "active",
    description="What the token says; a token that is not active has no member but `active` (RFC 7662 §2.2).",
)

JWK_SET = of_object({"keys": {"type": "array", "items": {"type": "object"}}}, "keys", description="RFC 7517 §5.")

LOGOUT_REQUEST = of_object(
    {"logout_token": described(VISIBLE, "A JWT, signed by the identity provider.")},
    "logout_token",
    description="Log a user out (OpenID Connect Back-Channel Logout 1.0 §2.5).",
)

TOKEN_RESPONSE = of_object(
    {
        "access_token": TEXT,
        "token_type": {"const": "Bearer"},
        "expires_in": {"type": "number", "description": "Seconds."},
        "refresh_token": TEXT,
        "scope": TEXT,
    },
    "access_token",
    "token_type",
    description="Tokens (RFC 6749 §5.1).",
)

_CLIENT_METADATA: Mapping[str, Schema] = {
    "client_name": {**_LABEL, "examples": ["Notes"]},
    **dict.fromkeys(("client_uri", "logo_uri", "tos_uri", "policy_uri"), _HTTPS),
    "contacts": _TEXTS,
    "scope": SCOPE,
    **dict.fromkeys(("software_id", "software_version", "application_type"), _LABEL),
}

_REGISTERED: Mapping[str, Schema] = {
    "redirect_uris": {**_URIS, "minItems": 1, "maxItems": 32},
    "token_endpoint_auth_method": {"enum": ["none", "client_secret_basic", "client_secret_post"]},
    "grant_types": {"type": "array", "items": {"enum": list(GrantType)}},
    "response_types": {"type": "array", "items": {"const": "code"}},
}

CLIENT_METADATA = of_object(
    {
        **_CLIENT_METADATA,
        **_REGISTERED,
        "token_endpoint_auth_method": {**_REGISTERED["token_endpoint_auth_method"], "default": "client_secret_basic"},
        # Other types are dropped from the registration (RFC 7591 §2).
        "grant_types": {**_TEXTS, "contains": {"const": GrantType.AUTHORIZATION_CODE.value}},
        "response_types": {**_TEXTS, "contains": {"const": "code"}},
    },
    "redirect_uris",
    description="Client metadata (RFC 7591 §2). Unknown members are ignored, and so are unsafe redirect_uris if at "
    "least one is safe.",
)

CLIENT_INFORMATION = of_object(
    {
        "client_id": TEXT,
        "client_id_issued_at": {"type": "integer", "description": "Seconds since the epoch."},
        "client_secret": described(TEXT, "Sent only in this response, if the method needs one."),
        "client_secret_expires_at": {"const": 0, "description": "It does not expire."},
        **_CLIENT_METADATA,
        **_REGISTERED,
    },
    "client_id",
    "client_id_issued_at",
    *_REGISTERED,
    description="The registered client (RFC 7591 §3.2.1).",
)

SERVER_METADATA = of_object(
    {
        "issuer": URI,
        **{
            f"{name}_endpoint": URI
            for name in ("authorization", "token", "registration", "revocation", "introspection")
        },
        "jwks_uri": URI,
        **{
            f"{name}_supported": _TEXTS
            for name in (
                "response_types",
                "response_modes",
                "grant_types",
                "scopes",
                "code_challenge_methods",
                "token_endpoint_auth_methods",
                "token_endpoint_auth_signing_alg_values",
                "revocation_endpoint_auth_methods",
                "revocation_endpoint_auth_signing_alg_values",
                "introspection_endpoint_auth_methods",
            )
        },
        "authorization_response_iss_parameter_supported": {"type": "boolean"},
        "client_id_metadata_document_supported": {"type": "boolean"},
    },
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "response_types_supported",
    description="Authorization server metadata (RFC 8414 §2).",
)

RESOURCE_METADATA = of_object(
    {
        "resource": URI,
        "authorization_servers": _URIS,
        "scopes_supported": _TEXTS,
        "bearer_methods_supported": _TEXTS,
    },
    "resource",
    "authorization_servers",
    description="Protected resource metadata (RFC 9728 §2).",
)

HEALTH = of_object({"status": TEXT, "problems": _TEXTS}, "status", description="The status and its problems, if any.")

ERROR = of_object(
    {
        "error": TEXT,
        # RFC 6749 §5.2
        "error_description": {"type": "string", "pattern": r"^[\x20-\x21\x23-\x5B\x5D-\x7E]+$"},
    },
    "error",
    "error_description",
    description="An error and what to do about it (RFC 6749 §5.2).",
)

SCHEMAS: Mapping[str, Schema] = {
    "AuthorizationRequest": AUTHORIZATION_REQUEST,
    "ConsentDecision": CONSENT_DECISION,
    "AccountForm": ACCOUNT_FORM,
    "CodeRequest": CODE_REQUEST,
    "RefreshRequest": REFRESH_REQUEST,
    "RevocationRequest": REVOCATION_REQUEST,
    "IntrospectionRequest": INTROSPECTION_REQUEST,
    "IntrospectionResponse": INTROSPECTION_RESPONSE,
    "JwkSet": JWK_SET,
    "LogoutRequest": LOGOUT_REQUEST,
    "TokenResponse": TOKEN_RESPONSE,
    "ClientMetadata": CLIENT_METADATA,
    "ClientInformation": CLIENT_INFORMATION,
    "ServerMetadata": SERVER_METADATA,
    "ResourceMetadata": RESOURCE_METADATA,
    "Health": HEALTH,
    "Error": ERROR,
}


def ref(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}
