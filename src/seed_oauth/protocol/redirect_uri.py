"""Which redirect_uri a client may register, and which one a request may use (RFC 6749 §3.1.2, RFC 8252)."""

import re
from collections.abc import Collection, Iterable
from urllib.parse import SplitResult, urlsplit

MAXIMUM_LENGTH = 2048

KNOWN_PRIVATE_USE_SCHEMES = frozenset(
    {
        "claude",
        "cursor",
        "vscode",
        "vscode-insiders",
        "vscodium",
        "windsurf",
        "zed",
        "raycast",
        "warp",
        "goose",
    }
)
"""Schemes of MCP clients that are not reverse domain names (RFC 8252 §7.1)."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

# RFC 3986 §2: the printable ASCII characters that a URI may contain. This excludes control characters (header
# injection), backslashes (browsers read them as slashes) and look-alike characters that are not in punycode.
_URI_CHARACTERS = re.compile(r"""[!#-;=?-\[\]_a-z~]+""")
_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*")


def unacceptable(uri: str, private_use_schemes: Collection[str] = ()) -> str | None:
    """Why `uri` may not be registered, or None if it may.

    Allowed are https, http on loopback (RFC 8252 §8.3), and private-use schemes that are reverse domain names
    (RFC 8252 §7.1), known, or in `private_use_schemes`.
    """
    if len(uri) > MAXIMUM_LENGTH or not _URI_CHARACTERS.fullmatch(uri):
        return "must be an absolute URI in plain ASCII"
    url = _split(uri)
    if url is None or not _SCHEME.fullmatch(uri.partition(":")[0]):
        return "must be an absolute URI with a lower-case scheme"
    if "#" in uri:
        return "must not have a fragment (RFC 6749 section 3.1.2)"
    if "@" in url.netloc:
        return "must not have a user name"
    if url.scheme in {"http", "https"}:
        return _unacceptable_web_host(url)
    if "." in url.scheme or url.scheme in KNOWN_PRIVATE_USE_SCHEMES or url.scheme in private_use_schemes:
        return None
    return "must use https, http on a loopback address, or a private-use scheme such as com.example.app"


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Whether a request may use `uri`: it equals a registered one, character by character.

    The port of a loopback URI may differ, because native apps listen on any free port (RFC 8252 §7.3).
    """
    registered = tuple(registered)
    if uri in registered:
        return True
    portless = _loopback_without_port(uri)
    return portless is not None and any(portless == _loopback_without_port(one) for one in registered)


def _split(uri: str) -> SplitResult | None:
    try:
        url = urlsplit(uri)
        url.port  # noqa: B018 - raises when the port is not a number
    except ValueError:
        return None
    return url


def _unacceptable_web_host(url: SplitResult) -> str | None:
    if not url.hostname or url.netloc.endswith(":"):
        return "must name a host"
    if url.scheme == "http" and url.hostname not in LOOPBACK_HOSTS:
        return "must use https (http is for 127.0.0.1, [::1] and localhost only)"
    return None


def _loopback_without_port(uri: str) -> str | None:
    """`uri` without its port if it is an acceptable loopback URI, None otherwise."""
    if not uri.startswith("http://") or unacceptable(uri):
        return None
    url = urlsplit(uri)
    # Compare the original text, not the host lower-cased by urlsplit: only the port may differ.
    host = url.netloc if url.port is None else url.netloc.rpartition(":")[0]
    return uri.replace(url.netloc, host, 1)
