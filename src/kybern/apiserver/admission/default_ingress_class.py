"""DefaultIngressClass: an ingress that names no class gets the default one (the newest, should there be several).

Source: "Ingress: Default Ingress Class" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from kybern.api.networking_v1 import Ingress
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule
from kybern.apiserver.request import Reader

CLASSES = "ingressclasses.networking.k8s.io"
DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_OLD_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(Rule):
    name: str = "DefaultIngressClass"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({"ingresses.networking.k8s.io"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def admit(self, a: Attributes) -> None:
        ingress = a.object
        if not isinstance(ingress, Ingress):
            return
        if ingress.spec.ingressClassName is not None or _OLD_CLASS in ingress.metadata.annotations:
            return
        found = newest_default(self._reader.list(CLASSES), DEFAULT)
        if found is not None:
            ingress.spec.ingressClassName = found.metadata.name


def newest_default(classes: Iterable[Any], annotation: str) -> Any | None:
    """The class annotated as default; of several the newest, then the first by name."""
    defaults = [c for c in classes if c.metadata.annotations.get(annotation) == "true"]
    defaults.sort(key=lambda c: str(c.metadata.name))
    return max(defaults, key=lambda c: c.metadata.creationTimestamp or "", default=None)
