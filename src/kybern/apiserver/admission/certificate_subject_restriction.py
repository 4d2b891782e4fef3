"""CertificateSubjectRestriction: nobody becomes system:masters through a signing request."""

from __future__ import annotations

from typing import ClassVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from kybern.api.certificates_v1 import CertificateSigningRequest
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.certificate_approval import REQUESTS
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.authorize.attributes import MASTERS

_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateSubjectRestriction(Rule):
    name: str = "CertificateSubjectRestriction"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({REQUESTS})

    def validate(self, a: Attributes) -> None:
        request = a.object
        if not isinstance(request, CertificateSigningRequest) or request.spec.signerName != _SIGNER:
            return
        try:
            subject = x509.load_pem_x509_csr(request.spec.request or b"").subject
        except ValueError as error:
            raise forbidden(a, f"unable to parse the certificate signing request: {error}") from None
        if any(o.value == MASTERS for o in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)):
            raise forbidden(a, f"use of {_SIGNER} signer with {MASTERS} group is not allowed")
