"""DefaultStorageClass: a claim that names no class gets the default one (the newest, should there be several).

A claim that names the empty class asks for none and is left alone. Source: "Storage Classes: Default StorageClass".
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api.core_v1 import PersistentVolumeClaim
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.default_ingress_class import newest_default
from kybern.apiserver.admission.rule import Rule
from kybern.apiserver.request import Reader

CLASSES = "storageclasses.storage.k8s.io"
DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"  # how claims named their class once


class DefaultStorageClass(Rule):
    name: str = "DefaultStorageClass"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({"persistentvolumeclaims"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def admit(self, a: Attributes) -> None:
        claim = a.object
        if not isinstance(claim, PersistentVolumeClaim):
            return
        if claim.spec.storageClassName is not None or _BETA_CLASS in claim.metadata.annotations:
            return
        found = newest_default(self._reader.list(CLASSES), DEFAULT)
        if found is not None:
            claim.spec.storageClassName = found.metadata.name
