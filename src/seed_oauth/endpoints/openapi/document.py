"""The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1), with the paths of the route table."""

from collections.abc import Mapping
from typing import Any

from seed_oauth.endpoints.openapi.responses import HEADERS, responses
from seed_oauth.endpoints.openapi.schemas import AUTHORIZATION_REQUEST, SCHEMAS, TEXT, VISIBLE, Schema, ref
from seed_oauth.http import paths as our_paths
from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    IntrospectionOutcome,
    LogoutOutcome,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.resource_server.reverse_proxy import METHODS
from seed_oauth.settings import Settings
from seed_oauth.settings.mcp_server import host_of, path_of

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_PAGE: Schema = {"text/html": {"schema": TEXT}}

# A public client sends client_id in the form.
_BY_BASIC_OR_IN_THE_FORM: list[dict[str, list[str]]] = [{"client_secret_basic": []}, {}]


def document(settings: Settings) -> dict[str, object]:
    """The document for these settings."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "seed_oauth",
            "version": "1",
            "summary": "An OAuth front door for MCP servers.",
            "description": "Errors are JSON as in RFC 6749 §5.2, or a page for browsers. The responses list the "
            "reasons that `oauth_errors_total` counts.",
        },
        "servers": [{"url": settings.issuer}],
        "paths": {**_endpoints(settings), **_paths_of_the_host(settings)},
        "components": {
            "schemas": SCHEMAS,
            "headers": HEADERS,
            "securitySchemes": _security_schemes(settings),
        },
    }


def _endpoints(settings: Settings) -> dict[str, object]:
    paths: dict[str, object] = {
        our_paths.AUTHORIZE: _authorize(settings),
        our_paths.TOKEN: {"post": _token(settings)},
        our_paths.REGISTER: {"post": _register(settings)},
    }
    if settings.flow == "broker":
        paths |= {our_paths.CONSENT: {"post": _consent(settings)}, our_paths.CALLBACK: {"get": _callback(settings)}}
        paths[our_paths.ACCOUNT] = _account(settings)
        paths[our_paths.BACKCHANNEL_LOGOUT] = {"post": _backchannel_logout(settings)}
    if settings.can_revoke:
        paths[our_paths.REVOKE] = {"post": _revoke(settings)}
    if settings.introspection_clients:
        paths[our_paths.INTROSPECT] = {"post": _introspect(settings)}
    if settings.signing_keys:
        paths[our_paths.JWKS] = {"get": _read("The keys of JWT access tokens (RFC 7517)", "JwkSet")}
    if settings.can_check_tokens:
        paths[our_paths.VERIFY] = {"get": _verify(settings)}
    for server in settings.forwarded:
        if host_of(server.resource, settings.issuer):
            continue  # this document describes one host
        path = path_of(server.resource, settings.issuer)
        paths[path] = {method.lower(): _resource(settings, server.resource, path, method) for method in METHODS}
    return paths


def _authorize(settings: Settings) -> dict[str, object]:
    properties, required = AUTHORIZATION_REQUEST["properties"], AUTHORIZATION_REQUEST["required"]
    assert isinstance(properties, Mapping)  # noqa: S101 - see there
    assert isinstance(required, list)  # noqa: S101 - see there
    shared = {
        "summary": "Begin a login (RFC 6749 §4.1.1)",
        "responses": responses(AuthorizationOutcome, settings, _PAGE, "The consent page"),
    }
    parameters = [_in_query(name, schema, required=name in required) for name, schema in properties.items()]
    return {
        "get": {"operationId": "authorize", **shared, "parameters": parameters},
        "post": {"operationId": "authorizeByForm", **shared, "requestBody": _body(_FORM, ref("AuthorizationRequest"))},
    }


def _token(settings: Settings) -> dict[str, object]:
    request = {"oneOf": [ref("CodeRequest"), ref("RefreshRequest")]}
    return {
        "operationId": "token",
        "summary": "Get tokens for a code or a refresh token (RFC 6749 §3.2)",
        "security": _BY_BASIC_OR_IN_THE_FORM,
        "requestBody": _body(_FORM, request),
        "responses": responses(TokenOutcome, settings, _json("TokenResponse"), "Tokens"),
    }


def _register(settings: Settings) -> dict[str, object]:
    return {
        "operationId": "register",
        "summary": "Register a client (RFC 7591)",
        "requestBody": _body(_JSON, ref("ClientMetadata")),
        "responses": responses(RegistrationOutcome, settings, _json("ClientInformation"), "The client as registered"),
    }


def _consent(settings: Settings) -> dict[str, object]:
    return {
        "operationId": "decide",
        "summary": "Submit the consent page; for browsers only, bound by a cookie",
        "requestBody": _body(_FORM, ref("ConsentDecision")),
        "responses": responses(ConsentOutcome, settings, _PAGE, "A page that redirects"),
    }


def _callback(settings: Settings) -> dict[str, object]:
    return {
        "operationId": "callback",
        "summary": "Return from the identity provider; for browsers only, bound by a cookie",
        "parameters": [
            _in_query("state", {**VISIBLE, "description": "The encrypted login transaction."}, required=True),
            *(_in_query(name, VISIBLE) for name in ("code", "iss", "error", "error_description")),
        ],
        "responses": responses(
            CallbackOutcome, settings, description="Redirect to the client with code, state and iss"
        ),
    }


def _account(settings: Settings) -> dict[str, object]:
    answers = responses(AccountOutcome, settings, _PAGE, "The applications that have access, or the login before it")
    return {
        "get": {
            "operationId": "account",
            "summary": "Show which applications have access; for browsers only, after a login",
            "parameters": [_in_query(name, VISIBLE) for name in ("error", "error_description", "iss")],
            "responses": answers,
        },
        "post": {
            "operationId": "takeBack",
            "summary": "Submit the account page; for browsers only, bound by a cookie",
            "requestBody": _body(_FORM, ref("AccountForm")),
            "responses": answers,
        },
    }


def _revoke(settings: Settings) -> dict[str, object]:
    return {
        "operationId": "revoke",
        "summary": "Revoke a token (RFC 7009)",
        "security": _BY_BASIC_OR_IN_THE_FORM,
        "requestBody": _body(_FORM, ref("RevocationRequest")),
        "responses": responses(RevocationOutcome, settings, description="The token is revoked or was not valid"),
    }


def _introspect(settings: Settings) -> dict[str, object]:
    return {
        "operationId": "introspect",
        "summary": "Ask about an access token; for resource servers only (RFC 7662)",
        "security": _BY_BASIC_OR_IN_THE_FORM,
        "requestBody": _body(_FORM, ref("IntrospectionRequest")),
        "responses": responses(
            IntrospectionOutcome, settings, _json("IntrospectionResponse"), "What the token says, if it is active"
        ),
    }


def _backchannel_logout(settings: Settings) -> dict[str, object]:
    return {
        "operationId": "backchannelLogout",
        "summary": "Log a user out; for the identity provider only (OpenID Connect Back-Channel Logout 1.0)",
        "requestBody": _body(_FORM, ref("LogoutRequest")),
        "responses": responses(LogoutOutcome, settings, description="The grants are revoked"),
    }


def _resource(settings: Settings, resource: str, path: str, method: str) -> dict[str, object]:
    answers = responses(ResourceOutcome, settings, description="The response of the MCP server")
    return {
        "operationId": f"{path.strip('/').replace('/', '_')}{method.capitalize()}",
        "summary": "The protected MCP server",
        "security": [{"mcp": list(settings.scope_rules(resource).required)}],
        "responses": {**answers, "default": {"description": "The response of the MCP server."}},
    }


def _verify(settings: Settings) -> dict[str, object]:
    names = ("X-Original-URI", "X-Original-Method", "X-Forwarded-Host", "X-Forwarded-Proto")
    return {
        "operationId": "verify",
        "summary": "Whether a request may pass to the MCP server; for reverse proxies only (forward authentication)",
        "parameters": [{"name": name, "in": "header", "schema": VISIBLE} for name in names],
        "responses": responses(ResourceOutcome, settings, description="It may; the header fields say who sent it"),
    }


def _paths_of_the_host(settings: Settings) -> dict[str, object]:
    """The paths that are not below the path of the issuer (RFC 8414 §3.1)."""
    host = {"servers": [{"url": our_paths.origin(settings.issuer)}]} if settings.issuer_path else {}
    paths = {**_documents(settings), **_for_the_operator()}
    return {path: {**host, "get": operation} for path, operation in paths.items()}


def _documents(settings: Settings) -> dict[str, object]:
    server = _read("Authorization server metadata (RFC 8414)", "ServerMetadata")
    resource = _read("Protected resource metadata (RFC 9728)", "ResourceMetadata")
    of_resources = map(our_paths.resource_metadata_path, settings.protected_resources)
    return {
        **dict.fromkeys(our_paths.server_metadata_paths(settings.issuer), server),
        **dict.fromkeys([our_paths.RESOURCE_METADATA, *of_resources], resource),
    }


def _for_the_operator() -> dict[str, object]:
    alive, ready = _read("Whether the process answers", "Health"), _read("Whether logins can succeed", "Health")
    not_ready = {"503": {"description": "Logins cannot succeed, and why.", "content": _json("Health")}}
    description = {"description": "An OpenAPI document.", "content": {_JSON: {"schema": {"type": "object"}}}}
    return {
        our_paths.HEALTH: alive,
        our_paths.READINESS: {**ready, "responses": {**ready["responses"], **not_ready}},
        our_paths.OPENAPI: {"summary": "This document", "responses": {"200": description}},
    }


def _security_schemes(settings: Settings) -> dict[str, object]:
    schemes: dict[str, object] = {
        "client_secret_basic": {
            "type": "http",
            "scheme": "basic",
            "description": "client_id and client_secret, each form-encoded (RFC 6749 §2.3.1). With client_secret_post "
            "they are in the form instead.",
        }
    }
    if settings.forwarded:
        flow = {
            "authorizationUrl": our_paths.url(settings.issuer, our_paths.AUTHORIZE),
            "tokenUrl": our_paths.url(settings.issuer, our_paths.TOKEN),
            "refreshUrl": our_paths.url(settings.issuer, our_paths.TOKEN),
            "scopes": dict.fromkeys(settings.advertised_scopes, ""),
        }
        schemes["mcp"] = {"type": "oauth2", "flows": {"authorizationCode": flow}}
    return schemes


def _in_query(name: str, schema: Schema, *, required: bool = False) -> dict[str, object]:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _body(media_type: str, schema: Schema) -> dict[str, object]:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _json(schema: str) -> dict[str, object]:
    return {_JSON: {"schema": ref(schema)}}


def _read(summary: str, schema: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": _json(schema)}}}
