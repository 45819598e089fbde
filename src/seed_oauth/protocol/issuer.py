"""Issuer identifiers: which `iss` belongs to an identity provider (RFC 9207 §2.4, RFC 9068 §4)."""

import re

_TENANT = "{tenantid}"
_GUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

ANY_TENANT = object()


def is_issuer(iss: object, issuer: str, tenant: object = ANY_TENANT) -> bool:
    """Whether an `iss` is that of the identity provider with this `issuer`, byte for byte.

    For several tenants Entra ID's issuer is a template, and `iss` has the tenant's GUID in its place. A token also
    names the tenant in its claim `tid`: pass that as `tenant`, and no other tenant is accepted.
    https://learn.microsoft.com/entra/identity-platform/access-tokens#multitenant-applications
    """
    before, template, after = issuer.partition(_TENANT)
    if not template:
        return iss == issuer
    if not isinstance(iss, str) or (tenant is not ANY_TENANT and iss != f"{before}{tenant}{after}"):
        return False
    return re.fullmatch(re.escape(before) + _GUID + re.escape(after), iss) is not None
