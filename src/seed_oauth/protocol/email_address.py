"""E-mail addresses (RFC 5321 §2.3.11) and their domains (IDNA, RFC 5891), in a form in which they can be compared."""

import unicodedata

import idna

LONGEST = 254
"""Characters of an address (RFC 5321 §4.5.3.1.3, erratum 1690)."""


def canonical(address: str) -> str | None:
    """The address in the form in which it is compared; None if it is not one.

    The case of ASCII letters does not matter, although RFC 5321 §2.4 allows a host to distinguish it in front of the @:
    hardly one does, and people do not. The case of other letters does, and one that is only an ASCII letter's twin (the
    Kelvin sign) makes no address: both would give one person's address to another.
    """
    written, at, domain = address.rpartition("@")
    found = canonical_domain(domain)
    local = unicodedata.normalize("NFC", written)
    # A space or a control character is in no address without quotation marks, which no mailbox needs.
    if not at or not local or found is None or len(address) > LONGEST or not local.isprintable() or " " in local:
        return None
    if not local.isascii():
        return f"{local}@{found}"
    return f"{local.lower()}@{found}" if written.isascii() else None


def canonical_domain(domain: str) -> str | None:
    """The domain in ASCII and lower case (A-labels); None if it is not one.

    By IDNA 2008 without its predecessor's transitional forms, in which `faß.de` is `fass.de`, a domain of others.
    """
    try:
        return idna.encode(domain, uts46=True, std3_rules=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        return None


def domain_of(canonical_address: str) -> str:
    """The domain of a canonical address."""
    return canonical_address.rpartition("@")[2]
