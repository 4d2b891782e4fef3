"""CertificateSigning: who issues a certificate must be trusted with its signer.

Source: "Certificate Signing Requests: Authorization" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.certificate_approval import REQUESTS, certificate_of, may_use_signer
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.authorize.chain import Authorizers


class CertificateSigning(Rule):
    """Asked when the certificate changes, or when the signer says that it failed."""

    name: str = "CertificateSigning"
    operations: ClassVar[frozenset[str]] = frozenset({"UPDATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({f"{REQUESTS}/status"})

    def __init__(self, authorizers: Authorizers) -> None:
        self._authorizers = authorizers

    def validate(self, a: Attributes) -> None:
        new, old = a.object, a.old
        if new is None or old is None:
            return
        if certificate_of(new) == certificate_of(old) and new.status.conditions == old.status.conditions:
            return
        if not may_use_signer(self._authorizers, a.user, "sign", old.spec.signerName):
            raise forbidden(a, f'user not permitted to sign requests with signerName "{old.spec.signerName}"')
