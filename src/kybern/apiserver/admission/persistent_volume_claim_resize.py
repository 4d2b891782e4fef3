"""PersistentVolumeClaimResize: a claim grows only if its class can.

Source: "Expanding Persistent Volumes Claims" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api.core_v1 import PersistentVolumeClaim
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.default_storage_class import CLASSES
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader
from kybern.machinery import quantity


class PersistentVolumeClaimResize(Rule):
    name: str = "PersistentVolumeClaimResize"
    operations: ClassVar[frozenset[str]] = frozenset({"UPDATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({"persistentvolumeclaims"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def validate(self, a: Attributes) -> None:
        claim, old = a.object, a.old
        if not isinstance(claim, PersistentVolumeClaim) or not isinstance(old, PersistentVolumeClaim):
            return
        if quantity.compare(_size(claim), _size(old)) <= 0:
            return
        if old.status.phase != "Bound":
            raise forbidden(a, "Only bound persistent volume claims can be expanded")
        found = self._reader.get(CLASSES, "", claim.spec.storageClassName) if claim.spec.storageClassName else None
        if found is None or not found.allowVolumeExpansion:
            raise forbidden(
                a,
                "only dynamically provisioned pvc can be resized and "
                "the storageclass that provisions the pvc must support resize",
            )


def _size(claim: PersistentVolumeClaim) -> str:
    return claim.spec.resources.requests.get("storage", quantity.ZERO)
