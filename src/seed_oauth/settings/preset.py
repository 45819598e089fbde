"""What a preset is: the defaults of settings for one kind of identity provider, and what it says of its users."""

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

_GUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


RULE_SCOPES: Mapping[str, tuple[str, ...]] = {"subject": ("openid",), "email": ("email",)}
"""The scopes of OpenID Connect Core §5.4, by what an access rule needs to know of a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of identity provider."""

    name: str
    hosts: tuple[str, ...] = ()
    """Hosts of its issuers, as patterns in which `*` matches anything. Empty matches any host."""
    paths: tuple[str, ...] = ("",)
    """Prefixes of the paths of its issuers."""
    defaults: Mapping[str, object]
    """Defaults of settings. Parameters are merged with those of the operator, other settings are overridden."""
    has_metadata: bool = True
    """False if the identity provider publishes no metadata; `defaults` has all endpoints."""
    supports_s256: bool = False
    """Whether PKCE with S256 works although its metadata does not list it."""
    published_issuers: Mapping[str, str] = field(default_factory=dict)
    """The issuer in the metadata, by a pattern of the issuers at which it is read: the exceptions to RFC 8414 §3.3.
    `{host}` is the host that it is read from, and `{guid}` any GUID."""
    error_codes: Mapping[str, str] = field(default_factory=dict)
    """Non-standard error codes of its token endpoint, and the codes of RFC 6749 §5.2 they stand for."""
    scope_separator: str = " "
    """Separator of `scope` in its token responses; RFC 6749 §3.3 has a space."""
    open_to_anybody: str | None = None
    """A pattern of the issuers at which anybody can have an account."""
    lacks: frozenset[str] = frozenset()
    """What it cannot say of a user, of `email`, `groups` and `tenant`."""
    has_userinfo: bool = True
    """Whether its userinfo endpoint accepts the access tokens that this server gets."""
    email_verified_claim: str = "email_verified"
    """The claim that says whether the e-mail address is verified (OpenID Connect Core §5.1)."""
    rule_scopes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: RULE_SCOPES)
    """The scopes that it has to be asked for, by what an access rule needs to know."""
    selects_account: bool = False
    """Whether `prompt=select_account` lets a user choose another account (OpenID Connect Core §3.1.2.1)."""

    def recognises(self, issuer: str) -> bool:
        """Whether the issuer belongs to this kind of identity provider."""
        url = urlsplit(issuer)
        host = url.hostname or ""
        known = not self.hosts or any(fnmatchcase(host, pattern) for pattern in self.hosts)
        return known and url.path.startswith(self.paths)

    def is_open_at(self, issuer: str) -> bool:
        """Whether anybody can have an account at this issuer."""
        return self.open_to_anybody is not None and re.fullmatch(self.open_to_anybody, issuer) is not None

    def publishes(self, issuer: str, published: str) -> bool:
        """Whether the metadata at `issuer` may name the issuer `published`."""
        host = urlsplit(issuer).hostname or ""
        allowed = [
            template.replace("{host}", host)
            for pattern, template in self.published_issuers.items()
            if re.fullmatch(pattern, issuer)
        ]
        return published in allowed or re.sub(_GUID, "{guid}", published) in allowed

    def fill_in(self, values: MutableMapping[str, object]) -> None:
        """Add the defaults to the settings that have no value."""
        for name, default in self.defaults.items():
            given = values.get(name)
            if given is None:
                values[name] = default
            elif isinstance(default, dict) and isinstance(given, dict):
                values[name] = {**default, **given}
