"""Users of client certificates, and whether a chain comes from a given authority.

The chain was verified by TLS against all authorities we trust; here it is told apart which one it was, because the
front proxy's authority vouches for proxies and never for users. What a certificate says is cached by its hash.
Source: "X.509 client certificates" in the authentication documentation.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kybern.apiserver.authenticate.verdict import AUTHENTICATED, with_group
from kybern.apiserver.request import User
from kybern.machinery.clock import Clock

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")  # Kubernetes' own attribute for a user's uid
_CACHED = 65536  # fewer than there are nodes would be none: they come in turn
_USAGES = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


class InvalidCertificate(Exception):
    """The chain was shown and is refused. The text is for logs."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A leaf certificate that came from the authority."""

    common_name: str
    user: User
    begins: datetime.datetime
    ends: datetime.datetime


class Authority:
    """The certificates of one authority (a PEM bundle), judging chains."""

    def __init__(self, bundle: bytes, clock: Clock) -> None:
        """Raises ValueError when the bundle holds no certificate."""
        self._roots = x509.load_pem_x509_certificates(bundle)
        self._clock = clock
        self._cache: dict[bytes, Verified | str] = {}

    def verify(self, chain: tuple[bytes, ...]) -> Verified:
        """The leaf of a chain (DER, leaf first) from this authority. Raises InvalidCertificate."""
        digest = hashlib.sha256(chain[0]).digest() if len(chain) == 1 else hashlib.sha256(b"\0".join(chain)).digest()
        found = self._cache.get(digest)
        if found is None:
            found = self._judge(chain)
            while len(self._cache) >= _CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[digest] = found
        if isinstance(found, str):
            raise InvalidCertificate(found)
        # A connection may outlive its certificate.
        if not found.begins <= self._clock.now() <= found.ends:
            raise InvalidCertificate("the certificate has expired or is not yet valid")
        return found

    def _judge(self, chain: tuple[bytes, ...]) -> Verified | str:
        try:
            certificates = [x509.load_der_x509_certificate(c) for c in chain]
            leaf = certificates[0]
            if not self._vouches_for(certificates):
                return "the certificate was signed by another authority"
            if not _may_authenticate(leaf):
                return "the certificate is not meant for client authentication"
            return Verified(_text(leaf, NameOID.COMMON_NAME), _user(leaf), *_validity(leaf))
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
            return f"the certificate cannot be read: {error}"

    def _vouches_for(self, chain: list[x509.Certificate]) -> bool:
        for position, certificate in enumerate(chain):
            if any(_is_same_or_issued_by(certificate, root) for root in self._roots):
                return True
            if position + 1 == len(chain):
                return False
            issuer = chain[position + 1]
            if not _is_authority(issuer) or not _is_issued_by(certificate, issuer):
                return False
        return False


def _is_same_or_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    return certificate == root or _is_issued_by(certificate, root)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _may_authenticate(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True  # RFC 5280, 4.2.1.12: without the extension every use is allowed
    return not _USAGES.isdisjoint(usages)


def _validity(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _user(certificate: x509.Certificate) -> User:
    groups = tuple(str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    der = certificate.public_bytes(serialization.Encoding.DER)
    return User(
        _text(certificate, NameOID.COMMON_NAME),
        _text(certificate, _UID),
        with_group(groups, AUTHENTICATED),
        {CREDENTIAL_ID: (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)},
    )


def _text(certificate: x509.Certificate, attribute: x509.ObjectIdentifier) -> str:
    """The last value, as Go reads a subject."""
    values = certificate.subject.get_attributes_for_oid(attribute)
    return str(values[-1].value) if values else ""
