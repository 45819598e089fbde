"""A certificate authority of the tests' own, for servers on loopback that speak TLS."""

import ssl
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TRUSTED = "test authority"


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(
    subject: str, public_key: ec.EllipticCurvePublicKey, issuer: str, key: ec.EllipticCurvePrivateKey, *, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


@lru_cache
def authority(called: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        certificate(called, key.public_key(), called, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, made


def authority_pem() -> str:
    """What has to be trusted."""
    return authority(TRUSTED)[1].public_bytes(serialization.Encoding.PEM).decode()


def trusting() -> ssl.SSLContext:
    """A client's context that trusts the authority, and nobody else."""
    return ssl.create_default_context(cadata=authority_pem())


def pem_for(*hosts: str, days: int = 1, by: str = TRUSTED) -> bytes:
    """A key and a certificate for `hosts`; what anybody but the authority has signed, nobody trusts."""
    signer, _ = authority(by)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(host)) if host[0].isdigit() or ":" in host else x509.DNSName(host) for host in hosts
    ]
    made = (
        certificate(hosts[0], key.public_key(), by, signer, days=days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


def serving(*hosts: str, days: int = 1, by: str = TRUSTED) -> ssl.SSLContext:
    """A server's context with a certificate for `hosts`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        pem = Path(folder) / "server.pem"
        pem.write_bytes(pem_for(*hosts, days=days, by=by))
        context.load_cert_chain(pem)
    return context
