"""Which `iss` is the identity provider's own (THREATS 6 and 16)."""

import pytest

from seed_oauth.identity_provider.metadata import ProviderMetadata

HOST = "https://login.microsoftonline.com"
TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
ARABIC_ZERO = "\N{ARABIC-INDIC DIGIT ZERO}"  # a digit, but not one of a GUID


@pytest.mark.parametrize(
    ("issuer", "said"),
    [
        ("https://idp.example", "https://idp.example"),
        ("https://idp.example/", "https://idp.example/"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT.upper()}/v2.0"),
    ],
)
def test_an_identity_provider_is_known_by_its_issuer_and_a_template_by_any_tenant(issuer: str, said: str) -> None:
    assert ProviderMetadata(issuer=issuer).is_issuer(said)


@pytest.mark.parametrize(
    ("issuer", "said"),
    [
        (None, ""),
        (None, "None"),
        ("https://idp.example", "https://idp.example/"),
        ("https://idp.example", "https://IDP.example"),
        ("https://idp.example", "https://idp-example"),
        ("https://idp.example", "https://idp.example.evil.example"),
        # A template stands for one GUID in one place, and everything around it is compared byte for byte.
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{{tenantid}}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/common/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}//v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT}/v2x0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT}/v2.0/"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT}/v2.0\n"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT}/{TENANT}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT}{TENANT}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT[:-1]}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT.replace('9', 'g')}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/{TENANT.replace('0', ARABIC_ZERO)}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"https://evil.example/{TENANT}/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", f"https://evil.example/?{HOST}/{TENANT}/v2.0"),
        (f"{HOST}/{TENANT}/v2.0", f"{HOST}/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0"),
    ],
)
def test_no_other_issuer_is_taken_for_it(issuer: str | None, said: str) -> None:
    assert not ProviderMetadata(issuer=issuer).is_issuer(said)
