"""Make the certificate that was asked for. Called by sign; touches no clock.

Promise: the subject and the names asked for, the usages granted, never a CA, never longer than the authority itself.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from kybern.controllers.certificates.rules import Unfit, Wish

SKEW = datetime.timedelta(minutes=5)  # peers whose clock is behind accept it at once
SHORTEST = 600.0  # seconds that can be asked for

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED: dict[str, ObjectIdentifier] = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}


class Authority:
    """The cluster's certificate authority."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Raises ValueError if the two are no usable pair (PEM)."""
        self._certificate = x509.load_pem_x509_certificate(certificate)
        try:
            loaded = serialization.load_pem_private_key(key, None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"not a usable private key: {error}") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("the authority's key is neither EC nor RSA")
        if loaded.public_key() != self._certificate.public_key():
            raise ValueError("the authority's certificate was made for another key")
        self._key = loaded

    def issue(self, wish: Wish, usages: frozenset[str], seconds: float, now: datetime.datetime) -> bytes:
        """PEM. Raises Unfit for a usage that does not exist, or a key that cannot be certified."""
        ends = min(now + datetime.timedelta(seconds=seconds), self._certificate.not_valid_after_utc)
        if ends <= now:
            raise Unfit("the certificate authority has expired")
        signer = self._key.public_key()
        try:
            public = wish.csr.public_key()
            builder = (
                x509.CertificateBuilder()
                .subject_name(wish.csr.subject)
                .issuer_name(self._certificate.subject)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - SKEW)
                .not_valid_after(ends)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
            )
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Unfit(f"cannot certify this key or subject: {error}") from None
        uses = key_usage(usages)
        if usages & _KEY_USAGES.keys():
            builder = builder.add_extension(uses, critical=True)
        extended = {_EXTENDED[usage]: None for usage in sorted(usages) if usage in _EXTENDED}
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(extended)), critical=False)
        if wish.alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(wish.alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_usage(usages: frozenset[str]) -> x509.KeyUsage:
    """Raises Unfit for a usage that nobody knows."""
    unknown = usages - _KEY_USAGES.keys() - _EXTENDED.keys()
    if unknown:
        raise Unfit(f"unknown usages: {', '.join(sorted(unknown))}")
    bits = dict.fromkeys(_KEY_USAGES.values(), False)
    for usage in usages & _KEY_USAGES.keys():
        bits[_KEY_USAGES[usage]] = True
    if not bits["key_agreement"]:  # the two mean nothing without it (RFC 5280)
        bits["encipher_only"] = bits["decipher_only"] = False
    return x509.KeyUsage(**bits)


def life(asked: int | None, longest: float) -> float:
    """How many seconds from now a certificate holds: what was asked for, within limits.

    The longest life includes the time before now that makes up for slow clocks; what is asked for does not (upstream).
    """
    if asked is None or asked >= longest:
        return longest - SKEW.total_seconds()
    return max(SHORTEST, float(asked))
