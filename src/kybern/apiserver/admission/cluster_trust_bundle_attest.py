"""ClusterTrustBundleAttest: who says which authorities a signer uses must be trusted with that signer.

Source: "ClusterTrustBundles" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.certificate_approval import may_use_signer
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.authorize.chain import Authorizers

BUNDLES = "clustertrustbundles.certificates.k8s.io"


class ClusterTrustBundleAttest(Rule):
    name: str = "ClusterTrustBundleAttest"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE", "UPDATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({BUNDLES})

    def __init__(self, authorizers: Authorizers) -> None:
        self._authorizers = authorizers

    def validate(self, a: Attributes) -> None:
        bundle: Any = a.object
        signer = bundle.spec.signerName
        if signer and not may_use_signer(self._authorizers, a.user, "attest", signer):
            raise forbidden(a, f'user not permitted to attest for signerName "{signer}"')
