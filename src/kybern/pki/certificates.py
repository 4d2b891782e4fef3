"""Make X.509 certificates, and judge whether one on disk is still good.

Called by pki.ensure; touches no file and no clock. Promise: what `issue` makes, `flaw` finds nothing wrong with
until two thirds of its life are over.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE = datetime.timedelta(days=3650)
LEAF_LIFE = datetime.timedelta(days=365)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey  # ours are EC P-256; RSA ones brought along are kept
_SKEW = datetime.timedelta(minutes=5)  # peers whose clock is a little behind accept a new certificate


@dataclass(frozen=True, slots=True)
class Profile:
    """What a certificate shall say."""

    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # DNS
    addresses: tuple[str, ...] = ()  # IP
    is_ca: bool = False
    server: bool = False  # extended key usage
    client: bool = False


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and the key it was made for."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return render_key(self.key)


def generate_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def render_key(key: PrivateKey) -> bytes:
    """PEM "EC PRIVATE KEY" (or RSA), which every Kubernetes component reads."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def render_public_key(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def parse_key(pem: bytes) -> PrivateKey:
    """Raises ValueError for anything but an EC or RSA private key without password."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a usable private key: {error}") from None
    if not isinstance(key, PrivateKey):
        raise ValueError("neither an EC nor an RSA key")
    return key


def parse_pair(certificate_pem: bytes, key_pem: bytes) -> KeyPair:
    """Raises ValueError when either part is broken or they do not belong together."""
    pair = KeyPair(x509.load_pem_x509_certificate(certificate_pem), parse_key(key_pem))
    if pair.certificate.public_key() != pair.key.public_key():
        raise ValueError("the certificate was made for another key")
    return pair


def issue(profile: Profile, issuer: KeyPair | None, now: datetime.datetime, key: PrivateKey) -> KeyPair:
    """A certificate for `key`, signed by `issuer` (None: by itself), living from now on."""
    subject = _name(profile)
    life = CA_LIFE if profile.is_ca else LEAF_LIFE
    ends = now + life
    if issuer is not None:
        ends = min(ends, issuer.certificate.not_valid_after_utc)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(ends)
        .add_extension(_key_usage(profile.is_ca), critical=True)
        .add_extension(x509.BasicConstraints(ca=profile.is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] * profile.server + [ExtendedKeyUsageOID.CLIENT_AUTH] * profile.client
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in profile.names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in profile.addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return KeyPair(builder.sign(signer, hashes.SHA256()), key)


def flaw(certificate: x509.Certificate, profile: Profile, issuer: x509.Certificate, now: datetime.datetime) -> str:
    """Why a certificate has to be made anew, or ""."""
    if certificate.subject != _name(profile):
        return "it names another subject"
    if is_ageing(certificate, now):
        return "less than a third of its life is left, or it is not valid yet"
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return "it was signed by another authority"
    names, addresses = _alternatives(certificate)
    missing = {*profile.names} - names | {str(ipaddress.ip_address(a)) for a in profile.addresses} - addresses
    if missing:
        return f"it does not name {', '.join(sorted(missing))}"
    return ""


def is_ageing(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Less than a third of its life is left (or none has begun: the clock was set back)."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now < begins or (ends - now) * 3 < ends - begins


def _name(profile: Profile) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in profile.organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, profile.common_name)])


def _alternatives(certificate: x509.Certificate) -> tuple[set[str], set[str]]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set(), set()
    names = found.get_values_for_type(x509.DNSName)
    return set(names), {str(a) for a in found.get_values_for_type(x509.IPAddress)}


def _key_usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
