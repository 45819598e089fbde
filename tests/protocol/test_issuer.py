"""Which `iss` is the identity provider's own (RFC 9207 §2.4, RFC 9068 §4)."""

import pytest

from seed_oauth.protocol.issuer import is_issuer

HOST = "https://login.microsoftonline.com"
TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
OTHER_TENANT = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
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
    assert is_issuer(said, issuer)


@pytest.mark.parametrize(
    ("issuer", "said"),
    [
        ("https://idp.example", None),
        ("https://idp.example", ["https://idp.example"]),
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
        (f"{HOST}/{{tenantid}}/v2.0", f"{HOST}/None/v2.0"),
        (f"{HOST}/{{tenantid}}/v2.0", None),
        (f"{HOST}/{TENANT}/v2.0", f"{HOST}/{OTHER_TENANT}/v2.0"),
    ],
)
def test_no_other_issuer_is_taken_for_it(issuer: str, said: object) -> None:
    assert not is_issuer(said, issuer)


def test_a_token_is_of_the_tenant_that_it_names() -> None:
    assert is_issuer(f"{HOST}/{TENANT}/v2.0", f"{HOST}/{{tenantid}}/v2.0", TENANT)


@pytest.mark.parametrize("tenant", [None, "None", "", OTHER_TENANT, TENANT.upper(), 7, ["x"]])
def test_a_token_of_another_tenant_or_of_none_is_refused(tenant: object) -> None:
    assert not is_issuer(f"{HOST}/{TENANT}/v2.0", f"{HOST}/{{tenantid}}/v2.0", tenant)


@pytest.mark.parametrize("tenant", [None, "None", "", "common", "../common", 7])
def test_a_tenant_is_a_guid_even_where_issuer_and_token_agree(tenant: object) -> None:
    assert not is_issuer(f"{HOST}/{tenant}/v2.0", f"{HOST}/{{tenantid}}/v2.0", tenant)


def test_without_a_template_the_tenant_makes_no_difference() -> None:
    assert is_issuer("https://idp.example", "https://idp.example", None)
