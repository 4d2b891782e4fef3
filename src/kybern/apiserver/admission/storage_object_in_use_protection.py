"""StorageObjectInUseProtection: claims and volumes carry a finalizer, so that they stay while they are used.

The protection controllers take it off. Source: "Storage Object in Use Protection" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule

_FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection(Rule):
    name: str = "StorageObjectInUseProtection"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset(_FINALIZERS)

    def admit(self, a: Attributes) -> None:
        finalizers = a.object.metadata.finalizers if a.object is not None else []
        wanted = _FINALIZERS[a.group_resource]
        if wanted not in finalizers:
            finalizers.append(wanted)
