"""Base64url without padding (RFC 4648 §5, RFC 7515 §2)."""

from binascii import a2b_base64, b2a_base64

_FROM_URL_SAFE = bytes.maketrans(b"-_+/=", b"+/---")  # after it, + and / and padding are refused as - would be

# RFC 4648 §3.5: the last bits of the last character mean nothing, and are zero. By the number of characters beyond the
# last four, of which there is never one.
_LAST = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


def encoded(data: bytes) -> str:
    """`data` as text that needs no escaping in a query."""
    return b2a_base64(data, newline=False).decode("ascii").rstrip("=").replace("+", "-").replace("/", "_")


def decoded(text: str) -> bytes:
    """What was `encoded` as `text`.

    Raises:
        ValueError: it is not base64url, or another spelling of what `encoded` returns.
    """
    data = a2b_base64(text.encode("ascii").translate(_FROM_URL_SAFE) + b"=" * (-len(text) % 4), strict_mode=True)
    if (rest := len(text) % 4) and text[-1] not in _LAST[rest]:
        raise ValueError("not as it was encoded")
    return data
