"""The guard that the settings describe."""

from collections.abc import Callable, Sequence
from time import time

from seed_oauth.access.tools import OperationScopes
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.access_tokens import AccessTokens
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.tokens import Accepts
from seed_oauth.identity_provider.open import OpenIdentityProvider, claim_names
from seed_oauth.protocol.scope import ScopeHierarchy
from seed_oauth.resource_server.bearer import BearerTokens
from seed_oauth.resource_server.claims import Claims, is_acceptable
from seed_oauth.resource_server.first_use import FirstUses
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.reverse_proxy import ReverseProxy
from seed_oauth.settings import Settings
from seed_oauth.settings.mcp_server import host_of, path_of, script_origins
from seed_oauth.telemetry.client_spans import ClientSpans


def open_tokens(
    settings: Settings,
    idp: OpenIdentityProvider,
    sealer: Sealer,
    own: AccessTokens,
    *,
    revocations: Revocations | None,
    now: Callable[[], float] = time,
) -> BearerTokens:
    """The verification of access tokens; `now` counts seconds since the epoch."""
    return BearerTokens(
        settings.issuer,
        sealer,
        idp.metadata,
        idp.client,
        idp.keys,
        own=own,
        idp_client_id=settings.idp_client_id,
        audiences=settings.idp_audiences,
        claim_names=claim_names(settings),
        introspection=settings.introspects,
        own_scopes={scope for scopes in settings.group_scopes.values() for scope in scopes},
        revocations=revocations,
        now=now,
    )


def open_guard(
    settings: Settings,
    resource: str,
    tokens: BearerTokens,
    *,
    grants: GrantStore | None,
    required: Sequence[str],
    now: Callable[[], float] = time,
) -> Guard:
    """The guard of `resource`, which asks for the scopes in `required`; `now` counts seconds since the epoch.

    `grants` is the authorization server's store, or None where there is none to ask.
    """
    rules = settings.scope_rules(resource)
    return Guard(
        resource,
        tokens,
        # Nothing is stored of a login in the relay flow.
        FirstUses(grants if settings.flow == "broker" else None, now),
        required=required,
        advertised=settings.scopes_at(resource),
        operations=OperationScopes(rules.tools, rules.methods),
        hierarchy=ScopeHierarchy(settings.scope_hierarchy),
        names_tools=settings.audit_tool_calls and bool(settings.audit_log),
    )


def guards_without_bodies(
    settings: Settings, tokens: BearerTokens, *, grants: GrantStore | None, now: Callable[[], float] = time
) -> dict[str, Guard]:
    """The guards of all protected resources, for requests whose body nobody sees here.

    Such a request may do anything, so its token must have the scopes of every tool and method.
    """
    guards = {}
    for resource in settings.protected_resources:
        rules = settings.scope_rules(resource)
        scopes = tuple(dict.fromkeys((*rules.required, *rules.tools, *rules.methods)))
        guards[resource] = open_guard(settings, resource, tokens, grants=grants, required=scopes, now=now)
    return guards


def reverse_proxies(
    settings: Settings,
    tokens: BearerTokens,
    *,
    grants: GrantStore | None,
    spans: Callable[[str], ClientSpans | None],
    now: Callable[[], float] = time,
) -> list[ReverseProxy]:
    """One for each MCP server that requests are forwarded to; `spans` makes what traces the requests to a URL."""
    proxies = []
    for server in settings.forwarded:
        required = settings.scope_rules(server.resource).required
        guard = open_guard(settings, server.resource, tokens, grants=grants, required=required, now=now)
        proxies.append(
            ReverseProxy(
                server.url,
                guard,
                host=host_of(server.resource, settings.issuer),
                path=path_of(server.resource, settings.issuer),
                issuer=settings.issuer,
                timeout=server.timeout or settings.mcp_server_timeout,
                body_limit=settings.mcp_server_body_limit,
                send_token=settings.mcp_server_send_token if server.send_token is None else server.send_token,
                origins=script_origins(server.url, server.resource, settings.allowed_origins),
                spans=spans(server.url),
            )
        )
    return proxies


def accepting(settings: Settings, now: Callable[[], float]) -> Accepts:
    """What the guard of a protected resource says of an access token, whether it stands here or elsewhere."""
    required = {resource: settings.scope_rules(resource).required for resource in settings.protected_resources}
    audiences, client_id = settings.idp_audiences, settings.idp_client_id

    def accepts(header: Claims, claims: Claims, issuer: str | None, resource: str) -> bool:
        return is_acceptable(
            header,
            claims,
            issuer=issuer,
            resource=resource,
            audiences=audiences,
            client_id=client_id,
            required=required.get(resource, settings.required_scopes),  # it may have been removed
            now=now(),
        )

    return accepts
