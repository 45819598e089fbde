"""The host of a URL, as this server takes it."""

import re
from typing import TypeGuard

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

_PLAIN = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)


def is_plain_host(host: str | None) -> TypeGuard[str]:
    """Whether everybody reads the same host: a name in ASCII or an IP address, nothing percent-encoded.

    RFC 3986 §3.2.2 allows more. But `claude.ai%E3%80%82evil.com` is one name to whoever shows it, and another, with an
    ideographic full stop, to whoever decodes it.
    """
    return host is not None and _PLAIN.fullmatch(host) is not None
