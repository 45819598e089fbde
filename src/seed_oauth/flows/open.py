"""What the settings say of the requests to the identity provider."""

from seed_oauth.access.group_scopes import GroupScopes
from seed_oauth.flows import IdpParameters
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.protocol.scope import ScopeHierarchy
from seed_oauth.settings import Settings
from seed_oauth.settings.access import is_github, rule_scopes


def idp_parameters(settings: Settings) -> IdpParameters:
    """The parameters of every request to the identity provider."""
    return IdpParameters(
        settings.idp_client_id or "",
        default_resource=settings.protected_resources[0],
        send_resource=settings.idp_send_resource,
        authorization=settings.idp_authorization_parameters,
        resource_names=settings.idp_resource_parameters,
    )


def idp_scopes(settings: Settings) -> IdpScopes:
    """The scopes that the identity provider is asked for."""
    hierarchy = ScopeHierarchy(settings.scope_hierarchy)
    return IdpScopes(
        settings.idp_scopes,
        settings.idp_dropped_scopes,
        hierarchy,
        needed=rule_scopes(settings),
        by_group=GroupScopes(settings.group_scopes, hierarchy, ignores_case=is_github(settings)),
    )
