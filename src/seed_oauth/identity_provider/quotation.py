"""What an identity provider says in its own words, made fit for a log line or for the doctor; it goes nowhere else."""

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

_LONGEST = 300  # characters

_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![\w-])"
# Codes, tokens and secrets look like this. GUIDs remain: they are the names of tenants and applications, and the
# correlation IDs that the provider's support asks for.
_OPAQUE = re.compile(rf"\b({_GUID})|[A-Za-z0-9_=~-]{{32,}}|(?=[A-Za-z0-9_=~-]*\d)[A-Za-z0-9_=~-]{{20,}}")


def quotation(words: object, secrets: Iterable[str] = ()) -> str | None:
    """The words on one line, without `secrets` and whatever looks like one; None for no words."""
    if not isinstance(words, str):
        return None
    for secret in filter(None, secrets):
        for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
            words = words.replace(spelling, "…")
    return one_line(_OPAQUE.sub(lambda found: found[1] or "…", words))


def one_line(words: object) -> str | None:
    """The words on one line of bounded length; None for no words. What they tell must be public."""
    if not isinstance(words, str):
        return None
    printable = "".join(character if character.isprintable() else " " for character in words)
    return " ".join(printable.split())[:_LONGEST] or None
