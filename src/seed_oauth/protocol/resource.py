"""Resource indicators (RFC 8707) and the URLs of protected resource metadata (RFC 9728)."""

from functools import lru_cache
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"https": 443, "http": 80}


@lru_cache(maxsize=256)  # every request names one of a few resources
def canonical(resource: str) -> str | None:
    """The canonical form of a resource, or None if it is not a valid one.

    Case of scheme and host, the default port, a trailing slash and a query (ChatGPT adds one) are ignored; a
    fragment is forbidden (RFC 8707 §2).
    """
    try:
        url = urlsplit(resource)
        port = url.port
    except ValueError:
        return None
    if not url.scheme or not url.hostname or "#" in resource or "@" in url.netloc:
        return None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if port is not None and port != _DEFAULT_PORTS.get(url.scheme):
        host = f"{host}:{port}"
    return f"{url.scheme}://{host}{url.path.rstrip('/')}"
