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
"""Parts of the names, redirect URIs and User-Agents of each family's clients, the more specific first.

User-Agents are such as `Claude-User`, `claude-code/2.1`, `openai-mcp/1.0`, `codex-mcp-client/0.151`, `Cursor/1.7` and
`Visual Studio Code/1.107`. Clients that are made with an SDK have that of its HTTP library, which is nobody's.
"""

_LONGEST_USER_AGENT = 256
"""Characters that are looked at."""


def family_of(client: Client) -> ClientFamily:
    """The family that a client's name and redirect URIs suggest; they prove nothing."""
    return _family(str(client.metadata.get("client_name", "")), client.redirect_uris)


def family_of_user_agent(user_agent: str | None) -> ClientFamily:
    """The family that the User-Agent of a request suggests, where it is not known which client sends it."""
    return _told_by((user_agent or "")[:_LONGEST_USER_AGENT])


@lru_cache(maxsize=1024)
def _family(client_name: str, redirect_uris: tuple[str, ...]) -> ClientFamily:
    return _told_by(" ".join((client_name, *redirect_uris)))


def _told_by(text: str) -> ClientFamily:
    told = text.lower()
    for family, signs in _SIGNS:
        if any(sign in told for sign in signs):
            return family
    return ClientFamily.OTHER
