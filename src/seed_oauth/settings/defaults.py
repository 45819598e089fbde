"""Defaults of settings that depend on other settings."""

import secrets
from collections.abc import MutableMapping

from seed_oauth.protocol.host import LOOPBACK_HOSTS
from seed_oauth.settings import presets, validators
from seed_oauth.settings.errors import PREFIX
from seed_oauth.settings.store_url import default_store_url


def fill_in(values: MutableMapping[str, object]) -> None:
    """Add the defaults of settings that are not given."""
    if not values.get("issuer"):
        host = values.get("host") or "127.0.0.1"
        if host not in LOOPBACK_HOSTS:
            raise ValueError(
                f"{PREFIX}ISSUER is missing: set it to the public https URL of this server; "
                f"only a loopback {PREFIX}HOST has a default"
            )
        host = f"[{host}]" if host == "::1" else host
        values["issuer"] = f"http://{host}:{validators.port_or_default(values.get('port'))}"
    if not values.get("secret_keys") and str(values["issuer"]).startswith("http://"):
        # Plain http means loopback: a restart logs out only the user of this machine.
        values["secret_keys"] = secrets.token_urlsafe(32)
    if not values.get("store_url"):
        values["store_url"] = default_store_url()
    if preset := presets.find(values.get("idp_preset"), values.get("idp_issuer")):
        preset.fill_in(values)
