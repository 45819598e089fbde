"""The guard that the settings describe."""

from collections.abc import Callable, Sequence
from time import time

from seed_oauth.access.tools import OperationScopes
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.tokens import Accepts
from seed_oauth.identity_provider.open import OpenIdentityProvider, claim_names
from seed_oauth.protocol.scope import ScopeHierarchy
from seed_oauth.resource_server.bearer import BearerTokens
from seed_oauth.resource_server.claims import Claims, is_acceptable
from seed_oauth.resource_server.first_use import FirstUses
from seed_oauth.resource_server.guard import Guard
from seed_oauth.settings import Settings


def open_guard(
    settings: Settings,
    resource: str,
    idp: OpenIdentityProvider,
    sealer: Sealer,
    *,
    revocations: Revocations | None,
    grants: GrantStore | None,
    required: Sequence[str],
    now: Callable[[], float] = time,
) -> Guard:
    """The guard of `resource`, which asks for the scopes in `required`; `now` counts seconds since the epoch.

    `grants` is the authorization server's store, or None where there is none to ask.
    """
    tokens = BearerTokens(
        settings.issuer,
        sealer,
        idp.metadata,
        idp.client,
        idp.keys,
        idp_client_id=settings.idp_client_id,
        audiences=settings.idp_audiences,
        claim_names=claim_names(settings),
        introspection=settings.introspects,
        own_scopes={scope for scopes in settings.group_scopes.values() for scope in scopes},
        revocations=revocations,
        now=now,
    )
    return Guard(
        resource,
        tokens,
        # Nothing is stored of a login in the relay flow.
        FirstUses(grants if settings.flow == "broker" else None, now),
        required=required,
        advertised=settings.advertised_scopes,
        operations=OperationScopes(settings.tool_scopes, settings.method_scopes),
        hierarchy=ScopeHierarchy(settings.scope_hierarchy),
        names_tools=settings.audit_tool_calls and bool(settings.audit_log),
    )


def guards_without_bodies(
    settings: Settings,
    idp: OpenIdentityProvider,
    sealer: Sealer,
    *,
    revocations: Revocations | None,
    grants: GrantStore | None,
    now: Callable[[], float] = time,
) -> dict[str, Guard]:
    """The guards of all protected resources, for requests whose body nobody sees here.

    Such a request may do anything, so its token must have the scopes of every tool and method.
    """
    scopes = dict.fromkeys((*settings.required_scopes, *settings.tool_scopes, *settings.method_scopes))
    return {
        resource: open_guard(
            settings, resource, idp, sealer, revocations=revocations, grants=grants, required=tuple(scopes), now=now
        )
        for resource in settings.protected_resources
    }


def accepting(settings: Settings, now: Callable[[], float]) -> Accepts:
    """What the guard of a protected resource says of an access token, whether it stands here or elsewhere."""

    def accepts(header: Claims, claims: Claims, issuer: str | None, resource: str) -> bool:
        return is_acceptable(
            header,
            claims,
            issuer=issuer,
            resource=resource,
            audiences=settings.idp_audiences,
            client_id=settings.idp_client_id,
            required=settings.required_scopes,
            now=now(),
        )

    return accepts
