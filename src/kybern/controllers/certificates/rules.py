"""What the built-in signers demand of a request, and when a request is of no more use. Pure.

Read by approve, sign and clean. Source: "Certificates and Certificate Signing Requests: Kubernetes signers" in the
documentation.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from kybern.api import scalars
from kybern.api.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestCondition

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = frozenset({CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY})

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
NODES = "system:nodes"
NODE_PREFIX = "system:node:"
_OPTIONAL = "key encipherment"
_CLIENT_USAGES = frozenset({"digital signature", "client auth"})
_SERVER_USAGES = frozenset({"digital signature", "server auth"})
HOUR = 3600.0
PENDING_LIFE = 24 * HOUR
SETTLED_LIFE = HOUR  # approved and issued, denied, or failed


class Unfit(ValueError):
    """The signer does not sign this; the text says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A parsed request."""

    csr: x509.CertificateSigningRequest
    common_name: str
    organizations: tuple[str, ...]
    alternatives: tuple[x509.GeneralName, ...]


def parse(pem: bytes | None) -> Wish:
    """Raises Unfit for what is no request, or one that was not signed with its own key."""
    try:
        csr = x509.load_pem_x509_csr(pem or b"")
        if not csr.is_signature_valid:
            raise Unfit("the request is not signed with its own key")
        names = tuple(str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        organizations = csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        alternatives = tuple(_alternatives(csr))
    except Unfit:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension) as error:
        raise Unfit(f"unable to parse the request: {error}") from None
    return Wish(csr, names[0] if names else "", tuple(str(o.value) for o in organizations), alternatives)


def _alternatives(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def check(signer: str, wish: Wish, usages: frozenset[str]) -> None:
    """Raises Unfit, in upstream's words, if the signer must not sign the wish for these usages."""
    match signer:
        case "kubernetes.io/kube-apiserver-client":
            for usage in sorted(usages - _CLIENT_USAGES - {_OPTIONAL}):
                raise Unfit(f"invalid usage for client certificate: {usage}")
            if "client auth" not in usages:
                raise Unfit("missing required usage for client certificate: client auth")
        case "kubernetes.io/kube-apiserver-client-kubelet":
            _check_node(wish)
            _refuse_alternatives(wish, _KINDS)
            _check_usages(usages, _CLIENT_USAGES)
        case "kubernetes.io/kubelet-serving":
            _check_node(wish)
            if not any(isinstance(name, x509.DNSName | x509.IPAddress) for name in wish.alternatives):
                raise Unfit("DNS or IP subjectAltName is required")
            _refuse_alternatives(wish, _KINDS[2:])
            if len(wish.alternatives) != sum(isinstance(n, x509.DNSName | x509.IPAddress) for n in wish.alternatives):
                raise Unfit("only DNS and IP subjectAltNames are allowed")
            _check_usages(usages, _SERVER_USAGES)
        case _:
            pass  # legacy-unknown has no rules


# In the order they are looked for.
_KINDS: tuple[tuple[type[x509.GeneralName], str], ...] = (
    (x509.DNSName, "DNS"),
    (x509.IPAddress, "IP"),
    (x509.RFC822Name, "Email"),
    (x509.UniformResourceIdentifier, "URI"),
)


def _refuse_alternatives(wish: Wish, kinds: Iterable[tuple[type[x509.GeneralName], str]]) -> None:
    for kind, name in kinds:
        if any(isinstance(alternative, kind) for alternative in wish.alternatives):
            raise Unfit(f"{name} subjectAltNames are not allowed")


def _check_node(wish: Wish) -> None:
    if wish.organizations != (NODES,):
        raise Unfit(f"subject organization is not {NODES}")
    if not wish.common_name.startswith(NODE_PREFIX):
        raise Unfit(f"subject common name does not begin with {NODE_PREFIX}")


def _check_usages(usages: frozenset[str], wanted: frozenset[str]) -> None:
    if usages - {_OPTIONAL} != wanted:
        raise Unfit(f"usages did not match [{' '.join(sorted(wanted | {_OPTIONAL}))}]")


def condition(request: CertificateSigningRequest, type_: str) -> CertificateSigningRequestCondition | None:
    for found in request.status.conditions:
        if found.type == type_:
            return found
    return None


def is_decided(request: CertificateSigningRequest) -> bool:
    return condition(request, APPROVED) is not None or condition(request, DENIED) is not None


def is_to_be_signed(request: CertificateSigningRequest) -> bool:
    if request.spec.signerName not in SIGNERS or request.status.certificate:
        return False
    refused = condition(request, DENIED) is not None or condition(request, FAILED) is not None
    return condition(request, APPROVED) is not None and not refused


def expires_in(request: CertificateSigningRequest, now: datetime.datetime) -> float | None:
    """Seconds until a request is to be deleted, 0 for now; None if it has no birthday yet."""
    lives: list[float] = []
    for type_ in (DENIED, FAILED, *([APPROVED] if request.status.certificate else [])):
        found = condition(request, type_)
        if found is not None and found.lastUpdateTime is not None:
            lives.append(_left(scalars.parse_time(found.lastUpdateTime), SETTLED_LIFE, now))
    if not request.status.conditions and request.metadata.creationTimestamp:
        lives.append(_left(scalars.parse_time(request.metadata.creationTimestamp), PENDING_LIFE, now))
    if request.status.certificate:
        ends = _end_of(request.status.certificate)
        if ends is not None:
            lives.append((ends - now).total_seconds())
    return max(0.0, min(lives)) if lives else None


def _left(since: datetime.datetime, life: float, now: datetime.datetime) -> float:
    return life - (now - since).total_seconds()


def _end_of(pem: bytes) -> datetime.datetime | None:
    """None for what other signers wrote there and cannot be read."""
    try:
        return min(certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return None
