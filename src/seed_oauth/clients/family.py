"""The family of a client, for statistics."""

from functools import lru_cache

from seed_oauth.clients import Client
from seed_oauth.outcomes import ClientFamily

_SIGNS = (
    (ClientFamily.CURSOR, ("cursor",)),
    (ClientFamily.CLAUDE, ("claude", "anthropic")),
    (ClientFamily.CODEX, ("codex",)),
    (ClientFamily.CHATGPT, ("chatgpt", "openai")),
    (ClientFamily.VSCODE, ("visual studio code", "vscode", "vs code")),
    (ClientFamily.INSPECTOR, ("mcp inspector", "mcp-inspector")),
)
"""Parts of the names and redirect URIs of each family's clients, the more specific first."""


def family_of(client: Client) -> ClientFamily:
    """The family that a client's name and redirect URIs suggest; they prove nothing."""
    return _family(str(client.metadata.get("client_name", "")), client.redirect_uris)


@lru_cache(maxsize=1024)
def _family(client_name: str, redirect_uris: tuple[str, ...]) -> ClientFamily:
    told = " ".join((client_name, *redirect_uris)).lower()
    for family, signs in _SIGNS:
        if any(sign in told for sign in signs):
            return family
    return ClientFamily.OTHER
