"""CertificateApproval: who approves a signing request must be trusted with its signer.

Source: "Certificate Signing Requests: Authorization" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.authorize.attributes import Attributes as Question
from kybern.apiserver.authorize.chain import Authorizers
from kybern.apiserver.request import User

REQUESTS = "certificatesigningrequests.certificates.k8s.io"


class CertificateApproval(Rule):
    name: str = "CertificateApproval"
    operations: ClassVar[frozenset[str]] = frozenset({"UPDATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({f"{REQUESTS}/approval"})

    def __init__(self, authorizers: Authorizers) -> None:
        self._authorizers = authorizers

    def validate(self, a: Attributes) -> None:
        request: Any = a.old  # the subresource cannot change the signer
        signer = request.spec.signerName
        if not may_use_signer(self._authorizers, a.user, "approve", signer):
            raise forbidden(a, f'user not permitted to approve requests with signerName "{signer}"')


def may_use_signer(authorizers: Authorizers, user: User, verb: str, signer: str) -> bool:
    """Whether one holds a verb on a signer, or on all of its domain (`example.com/*`)."""
    domain = signer.partition("/")[0]
    return any(
        authorizers.authorize(user, Question(verb, "certificates.k8s.io", "signers", name=name, version="*")).allowed
        for name in (signer, f"{domain}/*")
    )


def certificate_of(request: Any) -> bytes:
    """What was issued, b"" before."""
    return request.status.certificate or b""
