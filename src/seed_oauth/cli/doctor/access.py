"""The doctor's checks of the rules that say who may come in."""

from collections.abc import Mapping

from seed_oauth.access.rules import AccessRules
from seed_oauth.cli.doctor.finding import Finding, ok, warning
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.access import rule_needs, rule_scopes


def check_access(settings: Settings) -> Finding:
    """Which rules are in force."""
    every = [AccessRules.of(settings), *(AccessRules.of(server, server.resource) for server in settings.mcp_servers)]
    in_force = [f"{rule.name} ({len(rule.listed)})" for rules in every for rule in (*rules.allowed, *rules.denied)]
    if settings.allow_everybody:
        in_force.insert(0, "ALLOW_EVERYBODY")
    if not in_force:
        return ok("access rules", "none: everybody with an account at the identity provider may come in")
    if settings.contact is None and in_force != ["ALLOW_EVERYBODY"]:
        return warning(
            "access rules",
            f"{', '.join(in_force)}; who is refused is not told whom to ask",
            f"set {PREFIX}CONTACT to an e-mail address or a page",
        )
    return ok("access rules", f"in force: {', '.join(in_force)}")


def check_claims(settings: Settings, document: Mapping[str, object]) -> list[Finding]:
    """Whether the identity provider, by its metadata, can say what the rules need to know."""
    problems = [
        f"the scope {scope}, which the rules need"
        for scope in rule_scopes(settings)
        if _lacks(document, "scope", scope)
    ]
    claims = {"groups": settings.idp_groups_claim, "tenant": settings.idp_tenant_claim}
    problems += [
        f"the claim {claims[need]}, which the rules about {need}s need" for need in claims.keys() & rule_needs(settings)
        if _lacks(document, "claim", str(claims[need]))
    ]  # fmt: skip
    if not problems:
        return []
    return [
        warning(
            "claims",
            f"the metadata does not list {' and '.join(problems)}",
            "configure it at the identity provider, then log in: the log line of a refused login says what was missing",
        )
    ]


def _lacks(document: Mapping[str, object], kind: str, name: str) -> bool:
    # Both members are optional, and need not list everything (OpenID Connect Discovery §3).
    listed = document.get(f"{kind}s_supported")
    return isinstance(listed, list) and name not in listed
