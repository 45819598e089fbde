"""Base64url without padding (RFC 4648 §5, RFC 7515 §2)."""

from binascii import a2b_base64, b2a_base64

_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_+/", b"+/--")  # after it, + and / are refused as - would be


def encoded(data: bytes) -> str:
    """`data` as text that needs no escaping in a query."""
    return b2a_base64(data, newline=False).translate(_TO_URL_SAFE, b"=").decode("ascii")


def decoded(text: str) -> bytes:
    """What was `encoded` as `text`.

    Raises:
        ValueError: it is not base64url, or another spelling of what `encoded` returns.
    """
    data = a2b_base64(text.encode("ascii").translate(_FROM_URL_SAFE) + b"=" * (-len(text) % 4), strict_mode=True)
    # RFC 4648 §3.5: the last bits of the last character mean nothing, so the last bytes have several spellings.
    groups = len(data) // 3
    if encoded(data[3 * groups :]) != text[4 * groups :]:
        raise ValueError("not as it was encoded")
    return data
