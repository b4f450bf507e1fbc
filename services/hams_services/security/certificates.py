"""A site's own certificate authority, and the broker's certificate signed by it (X.509, ECDSA P-256)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
BROKER_DAYS = 825
"""The longest validity that common TLS libraries accept."""
SKEW = timedelta(days=30)
"""Certificates are valid from this long ago, for boxes whose clocks are behind, as those without a battery are."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def new_key() -> bytes:
    """Return a new private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def authority(key: bytes, now: datetime) -> bytes:
    """Return the certificate of a new authority, signed by its own key, PEM."""
    private = _private(key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "HAMS site authority")])
    made = (
        _builder(name, name, private.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def broker(
    key: bytes, authority_pem: bytes, authority_key: bytes, hosts: Iterable[str], now: datetime, mutual: bool = False
) -> bytes:
    """Return a broker's certificate for `hosts` (names, addresses), PEM; `mutual`: it also serves as a client's."""
    issuer = x509.load_pem_x509_certificate(authority_pem)
    signer = _private(authority_key)
    private = _private(key)
    names = [_name(host) for host in dict.fromkeys(hosts)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "HAMS broker")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if mutual else [])]
    made = (
        _builder(subject, issuer.subject, private.public_key(), now, BROKER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def hosts_of(certificate: bytes) -> list[str]:
    """Return the names and addresses in a certificate."""
    found = x509.load_pem_x509_certificate(certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def is_pair(certificate: bytes, key: bytes) -> bool:
    """Return whether a certificate is for a private key. Raises ValueError, TypeError: the key cannot be read."""
    found = x509.load_pem_x509_certificate(certificate).public_key(), serialization.load_pem_private_key(key, None)
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return found[0].public_bytes(*form) == found[1].public_key().public_bytes(*form)


def expires(certificate: bytes) -> datetime:
    """Return when a certificate expires (UTC)."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic-curve key")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def host_name(text: str) -> str:
    """Return `text` as a certificate has it: an IP address, or a DNS name in lower-case ASCII. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        name = text.encode("idna").decode().lower()
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("not a host name")
    return name


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
