"""PodCertificateRequests: who asks for which key, and what a signer may answer.

`check_time` needs the time of day and is called by the registry's strategy; the rest is listed in RULES.
Source: the answers of a v1.36 API server.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kybern.api import scalars
from kybern.api.certificates_v1beta1 import (
    PodCertificateRequest,
    PodCertificateRequestSpec,
    PodCertificateRequestStatus,
)
from kybern.machinery import names, pem
from kybern.machinery.status import FieldError, invalid, not_supported, required, too_long
from kybern.machinery.validation import conditions, rules
from kybern.machinery.validation.rules import Errors, Rules
from kybern.machinery.validation.server import check_signer
from kybern.pausing import pausing

if TYPE_CHECKING:
    from cryptography import x509

_LARGEST_KEY = 10 << 10
_LONGEST_UID = 128
_LARGEST_ANNOTATIONS = 256 << 10
_SHORTEST, _LONGEST, _LONGEST_BUILT_IN = 3600, 91 * 86400, 86400  # seconds
_KINDS = ("Issued", "Denied", "Failed")
_MARGIN = datetime.timedelta(minutes=10)
_SKEW = datetime.timedelta(minutes=5)
_CHAIN = "status.certificateChain"
# Upstream shows what was changed by the names of its Go fields.
_SHOWN = {
    "SignerName": "signerName", "PodName": "podName", "PodUID": "podUID", "ServiceAccountName": "serviceAccountName",
    "ServiceAccountUID": "serviceAccountUID", "NodeName": "nodeName", "NodeUID": "nodeUID",
    "MaxExpirationSeconds": "maxExpirationSeconds", "PKIXPublicKey": "pkixPublicKey",
    "ProofOfPossession": "proofOfPossession", "StubPKCS10Request": "stubPKCS10Request",
    "UnverifiedUserAnnotations": "unverifiedUserAnnotations",
}  # fmt: skip


def _bare(field: str, detail: str) -> FieldError:
    """An invalid value that is not shown."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {detail}")


# -- spec --------------------------------------------------------------------------------------------------------


def _check(request: PodCertificateRequest, errors: Errors) -> None:
    spec = request.spec
    check_signer(spec.signerName, "spec.signerName", errors)
    for who in ("pod", "serviceAccount", "node"):
        rules.check_rule(getattr(spec, f"{who}Name"), f"spec.{who}Name", names.check_subdomain, errors)
        _check_uid(getattr(spec, f"{who}UID"), f"spec.{who}UID", errors)
    longest = _LONGEST_BUILT_IN if spec.signerName.startswith("kubernetes.io/") else _LONGEST
    seconds = spec.maxExpirationSeconds
    if seconds is None:
        errors.append(required("spec.maxExpirationSeconds", "must be set"))
    elif not _SHORTEST <= seconds <= longest:
        message = f"must be in the range [{_SHORTEST}, {longest}]"
        errors.append(invalid("spec.maxExpirationSeconds", seconds, message))
    _check_annotations(spec.unverifiedUserAnnotations, errors)
    _check_key(spec, errors)


def _check_uid(uid: str, path: str, errors: Errors) -> None:
    if not uid:
        errors.append(invalid(path, uid, "must not be empty"))
    if len(uid) > _LONGEST_UID:
        errors.append(too_long(path, _LONGEST_UID))


def _check_annotations(annotations: Mapping[str, str], errors: Errors) -> None:
    path = "spec.unverifiedUserAnnotations"
    for key in annotations:
        if "/" not in key:
            errors.append(invalid(path, key, 'must be a domain-prefixed key (such as "acme.io/foo")'))
            continue
        for fault in names.check_qualified(key.lower()):
            errors.append(invalid(path, key, fault))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _LARGEST_ANNOTATIONS:
        errors.append(too_long(path, _LARGEST_ANNOTATIONS))


def _check_key(spec: PodCertificateRequestSpec, errors: Errors) -> None:
    """A request of PKCS #10, or a key and a signature that proves it is the asker's."""
    has_key, has_proof = bool(spec.pkixPublicKey), bool(spec.proofOfPossession)
    if has_key != has_proof or has_key == bool(spec.stubPKCS10Request):
        message = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"
        errors.append(_bare("spec", message))
        return
    for field in ("pkixPublicKey", "proofOfPossession", "stubPKCS10Request"):
        if len(getattr(spec, field) or b"") > _LARGEST_KEY:
            errors.append(too_long(f"spec.{field}", _LARGEST_KEY))
            return
    if spec.stubPKCS10Request:
        _check_stub(spec.stubPKCS10Request, errors)
    elif spec.pkixPublicKey and spec.proofOfPossession:
        _check_proof(spec.pkixPublicKey, spec.proofOfPossession, spec.podUID, errors)


def _check_stub(data: bytes, errors: Errors) -> None:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    path = "spec.stubPKCS10Request"
    try:
        stub = x509.load_der_x509_csr(data)
        key: Any = stub.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        errors.append(_bare(path, "must be a valid PKCS#10 CSR"))
        return
    if _check_kind(key, path, ("P256", "P384", "P521"), errors):
        try:
            is_valid = stub.is_signature_valid
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            is_valid = False
        if not is_valid:
            errors.append(_bare(path, "invalid signature"))


def _check_kind(key: Any, path: str, curves: tuple[str, ...], errors: Errors) -> bool:
    """True for keys of the kinds and sizes that are taken."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return True
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = f"P-{key.curve.key_size}" if key.curve.name.startswith("secp") else key.curve.name
        if name.replace("-", "") in curves:
            return True
        last = f"{', '.join(curves[:-1])}{',' if len(curves) > 2 else ''} or {curves[-1]}"
        errors.append(invalid(path, f"curve {name}", f"elliptic public keys must use curve {last}"))
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size in (3072, 4096):
            return True
        message = "RSA keys must have modulus size 3072 or 4096"
        errors.append(invalid(path, f"{key.key_size}-bit modulus", message))
    else:
        errors.append(_bare(path, "unknown public key type; supported types are Ed25519, ECDSA, and RSA"))
    return False


def _check_proof(key_data: bytes, proof: bytes, uid: str, errors: Errors) -> None:
    """The pod's uid, signed with the key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    path = "spec.pkixPublicKey"
    try:
        key: Any = serialization.load_der_public_key(key_data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        shown = base64.b64encode(key_data).decode()
        errors.append(invalid(path, shown, "must be a valid PKIX-serialized public key"))
        return
    if not _check_kind(key, path, ("P256", "P384"), errors):
        return
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(proof, uid.encode(), ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
            key.verify(proof, uid.encode(), pss, hashes.SHA256())
        else:
            key.verify(proof, uid.encode())
    except (InvalidSignature, ValueError):
        message = "could not verify proof-of-possession signature"
        errors.append(_bare("spec.proofOfPossession", message))


def _check_update(request: PodCertificateRequest, old: PodCertificateRequest, errors: Errors) -> None:
    if request.spec != old.spec:
        shown = {name: getattr(request.spec, field) or None for name, field in _SHOWN.items()}
        errors.append(invalid("spec", shown, rules.IMMUTABLE))


# -- status ------------------------------------------------------------------------------------------------------


def _check_status(request: PodCertificateRequest, old: PodCertificateRequest, errors: Errors) -> None:
    """Upstream stops at the first fault of each part."""
    _check_update(request, old, errors)
    new, before = request.status, old.status
    if any(c.type in _KINDS for c in before.conditions):
        if new != before:
            message = "immutable after PodCertificateRequest is issued, denied, or failed"
            errors.append(_bare("status", message))
        return
    count = len(errors)
    conditions.check(new.conditions, "status.conditions", errors)
    _check_kinds(new, errors)
    if len(errors) > count:
        return
    kind = new.conditions[0].type if new.conditions else ""
    if kind == "Issued":
        _check_chain(request, errors)
    elif kind:
        if new.certificateChain or new.notBefore or new.notAfter or new.beginRefreshAt:
            message = "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
            errors.append(_bare("status", message))
    elif new != before:
        message = 'status is immutable unless transitioning to "Issued", "Denied", or "Failed"'
        errors.append(_bare("status", message))


def _check_kinds(status: PodCertificateRequestStatus, errors: Errors) -> None:
    for i, condition in enumerate(pausing(status.conditions)):
        where = f"status.conditions.[{i}]"  # upstream's spelling
        if condition.type not in _KINDS:
            errors.append(not_supported(f"{where}.type", condition.type, _KINDS))
        elif condition.status != "True" and condition.status in ("False", "Unknown"):
            errors.append(not_supported(f"{where}.status", condition.status, ("True",)))
        if i and condition.type in _KINDS and condition.type != status.conditions[0].type:
            message = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            errors.append(invalid(f"{where}.type", condition.type, message))


def _check_chain(request: PodCertificateRequest, errors: Errors) -> None:
    from cryptography import x509

    text = request.status.certificateChain or ""
    blocks = list(pem.parse(text.encode()))
    if not blocks:
        errors.append(invalid(_CHAIN, text, "issued certificate chain must contain at least one certificate"))
        return
    if any(block.type != "CERTIFICATE" for block in blocks):
        message = "issued certificate chain must consist entirely of CERTFICATE PEM blocks"  # as upstream spells it
        errors.append(invalid(_CHAIN, text, message))
        return
    chain = []
    for block in blocks:
        try:
            chain.append(x509.load_der_x509_certificate(block.data))
        except (ValueError, TypeError, x509.InvalidVersion):
            which = "intermediate" if chain else "leaf"
            errors.append(invalid(_CHAIN, text, f"{which} certificate does not parse as valid X.509"))
            return
    if _key_bytes(chain[0]) != _asked_key(request.spec):
        errors.append(invalid(_CHAIN, text, "leaf certificate was not issued to the requested public key"))
        return
    _check_lifetime(request, chain[0], errors)


def _key_bytes(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def _asked_key(spec: PodCertificateRequestSpec) -> bytes:
    from cryptography import x509

    if spec.stubPKCS10Request:
        return _key_bytes(x509.load_der_x509_csr(spec.stubPKCS10Request))
    return spec.pkixPublicKey or b""


def _check_lifetime(request: PodCertificateRequest, leaf: x509.Certificate, errors: Errors) -> None:
    status = request.status
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    seconds = int((end - begin).total_seconds())
    longest = request.spec.maxExpirationSeconds or 0
    if seconds < _SHORTEST:
        errors.append(invalid(_CHAIN, seconds * 10**9, "leaf certificate lifetime must be >= 1 hour"))
        return
    if seconds > longest:
        message = f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})"
        errors.append(invalid(_CHAIN, seconds * 10**9, message))
        return
    for field, told, meant, name in (
        ("notBefore", status.notBefore, begin, "NotBefore"),
        ("notAfter", status.notAfter, end, "NotAfter"),
    ):
        if not told:
            errors.append(required(f"status.{field}", "must be present and consistent with the issued certificate"))
            return
        if scalars.parse_time(told) != meant:
            message = f"must be set to the {name} time encoded in the leaf certificate"
            errors.append(invalid(f"status.{field}", told, message))
            return
    refresh = status.beginRefreshAt
    if not refresh:
        message = "must be present and in the range [notbefore+10min, notafter-10min]"
        errors.append(required("status.beginRefreshAt", message))
    elif scalars.parse_time(refresh) < begin + _MARGIN:
        message = "must be at least 10 minutes after status.notBefore"
        errors.append(invalid("status.beginRefreshAt", refresh, message))
    elif scalars.parse_time(refresh) > end - _MARGIN:
        message = "must be at least 10 minutes before status.notAfter"
        errors.append(invalid("status.beginRefreshAt", refresh, message))


def check_time(request: PodCertificateRequest, old: PodCertificateRequest, now: datetime.datetime) -> list[FieldError]:
    """A certificate that is being issued must hold from now on."""
    told = request.status.notBefore
    if not told or request.status == old.status or abs(scalars.parse_time(told) - now) <= _SKEW:
        return []
    message = "must be set to within 5 minutes of kube-apiserver's current time"
    return [invalid("status.notBefore", told, message)]


RULES: dict[type[Any], Rules] = {PodCertificateRequest: Rules(_check, _check_update, _check_status)}
