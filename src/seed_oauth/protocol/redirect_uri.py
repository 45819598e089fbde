"""Which redirect_uri a client may register, and which one a request may use (RFC 6749 §3.1.2, RFC 8252)."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from seed_oauth.protocol.host import LOOPBACK_HOSTS, is_plain_host

MAXIMUM_LENGTH = 2048

# The URI handler of an extension, in VS Code and its relatives: Cline's, Roo Code's, Cursor's own.
_EXTENSION = re.compile(r"//[\w-]+\.[\w-]+(?:/[\w-]+)*/(?:callback(?:/[\w-]+)?|did-authenticate)")
_RAYCAST = re.compile(r"/{1,2}oauth(?:\?package_name=[^&]+)?")

KNOWN_CALLBACKS = {
    # https://cursor.com/docs/mcp, https://github.com/cline/cline/issues/8103
    "cursor": _EXTENSION,
    "vscode": _EXTENSION,
    "vscode-insiders": _EXTENSION,
    "vscodium": _EXTENSION,
    "windsurf": _EXTENSION,
    "claude": re.compile(r"//claude\.ai/mcp-auth-callback(?:/[\w-]+)?"),
    # https://developers.raycast.com/api-reference/oauth
    "raycast": _RAYCAST,
    "com.raycast": _RAYCAST,
    # https://github.com/warpdotdev/warp/issues/9088
    "warp": re.compile(r"//mcp/oauth2callback(?:\?server_id=[\w-]+)?"),
}
"""Private-use schemes of MCP clients, and what follows the colon in their callbacks.

Nothing else may be registered with these schemes: links such as `cursor://…/mcp/install` or `vscode://vscode.git/clone`
take effect as soon as a browser opens them.
"""

# RFC 3986 §2: the printable ASCII characters that a URI may contain. This excludes control characters (header
# injection), backslashes (browsers read them as slashes) and look-alike characters that are not in punycode.
_URI_CHARACTERS = re.compile(r"""[!#-;=?-\[\]_a-z~]+""")
_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*")
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class RedirectUriRules:
    """Which redirect URIs may be registered at this server."""

    issuer: str = ""
    """Our issuer identifier: no redirect URI has its origin."""
    private_use_schemes: Collection[str] = ()
    """Schemes that the operator allows, whatever comes after them."""

    def objection(self, uri: str) -> str | None:
        """Why `uri` may not be registered, or None if it may.

        Allowed are https, http on loopback (RFC 8252 §8.3), private-use schemes that are reverse domain names
        (RFC 8252 §7.1) or in `private_use_schemes`, and the callbacks of known clients.
        """
        if objection := _malformed(uri):
            return objection
        url = urlsplit(uri)
        if url.scheme in {"http", "https"}:
            return _unacceptable_web_host(url) or (
                "must not be at this server itself" if self.issuer and is_at(uri, self.issuer) else None
            )
        if url.scheme in self.private_use_schemes:
            return None
        if callback := KNOWN_CALLBACKS.get(url.scheme):
            known = callback.fullmatch(uri.partition(":")[2])
            return None if known else f"must be a callback of the application that {url.scheme}: belongs to"
        if "." in url.scheme:
            return None
        return "must use https, http on a loopback address, or a private-use scheme such as com.example.app"


def is_at(uri: str, issuer: str) -> bool:
    """Whether a well-formed web URI has the origin of `issuer`, in whatever spelling."""
    return _origin(uri) == _origin(issuer)


@lru_cache(maxsize=256)  # every login of a client asks for it
def is_on_loopback(uri: str) -> bool:
    """Whether a program on the user's own machine listens at `uri`."""
    return urlsplit(uri).hostname in LOOPBACK_HOSTS


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Whether a request may use `uri`: it equals a registered one, character by character.

    The port of a loopback URI may differ, because native apps listen on any free port (RFC 8252 §7.3).
    """
    registered = tuple(registered)
    if uri in registered:
        return True
    portless = _loopback_without_port(uri)
    return portless is not None and any(portless == _loopback_without_port(one) for one in registered)


def _malformed(uri: str) -> str | None:
    if len(uri) > MAXIMUM_LENGTH or not _URI_CHARACTERS.fullmatch(uri):
        return "must be an absolute URI in plain ASCII"
    try:
        url = urlsplit(uri)
        url.port  # noqa: B018 - raises when the port is not a number
    except ValueError:
        return "must be an absolute URI"
    if not _SCHEME.fullmatch(uri.partition(":")[0]):
        return "must be an absolute URI with a lower-case scheme"
    if "#" in uri:
        return "must not have a fragment (RFC 6749 section 3.1.2)"
    if "@" in url.netloc:
        return "must not have a user name"
    return None


@lru_cache(maxsize=256)  # every registration asks for that of this server
def _origin(uri: str) -> tuple[str, str, int | None]:
    url = urlsplit(uri)
    host = (url.hostname or "").rstrip(".")  # the dot at the end of a name is the root that every name has
    port = _DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port
    return url.scheme, "loopback" if host in LOOPBACK_HOSTS else host, port


def _unacceptable_web_host(url: SplitResult) -> str | None:
    if not is_plain_host(url.hostname) or url.netloc.endswith(":"):
        return "must name a host, without percent-encoding"
    if url.scheme == "http" and url.hostname not in LOOPBACK_HOSTS:
        return "must use https (http is for 127.0.0.1, [::1] and localhost only)"
    return None


def _loopback_without_port(uri: str) -> str | None:
    """`uri` without its port if it is an acceptable loopback URI, None otherwise."""
    if not uri.startswith("http://") or _malformed(uri) or _unacceptable_web_host(urlsplit(uri)):
        return None
    url = urlsplit(uri)
    # Compare the original text, not the host lower-cased by urlsplit: only the port may differ.
    host = url.netloc if url.port is None else url.netloc.rpartition(":")[0]
    return uri.replace(url.netloc, host, 1)
