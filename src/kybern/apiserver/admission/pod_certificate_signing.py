"""PodCertificateRequestSigning: who answers a pod's request for a certificate must be trusted with its signer.

Source: the answers of a v1.36 API server, which refuses it as a fault of the object.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.certificate_approval import may_use_signer
from kybern.apiserver.admission.rule import Rule
from kybern.apiserver.authorize.chain import Authorizers
from kybern.machinery.status import ApiError, forbidden_field

REQUESTS = "podcertificaterequests.certificates.k8s.io"


class PodCertificateRequestSigning(Rule):
    name: str = "PodCertificateRequestSigning"
    operations: ClassVar[frozenset[str]] = frozenset({"UPDATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({f"{REQUESTS}/status"})

    def __init__(self, authorizers: Authorizers) -> None:
        self._authorizers = authorizers

    def validate(self, a: Attributes) -> None:
        new: Any = a.object
        old: Any = a.old
        if new.status == old.status:
            return
        signer = old.spec.signerName
        if not may_use_signer(self._authorizers, a.user, "sign", signer):
            why = f'User "{a.user.name}" is not permitted to "sign" for signer "{signer}"'
            errors = [forbidden_field("spec.signerName", why)]
            raise ApiError.invalid(a.resource.group, a.resource.kind, a.name, errors)
