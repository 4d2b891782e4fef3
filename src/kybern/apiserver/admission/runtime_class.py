"""RuntimeClass: a pod's runtime class decides its overhead and adds to where it may run.

Source: "Runtime Class" and "Pod Overhead" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api import node_v1
from kybern.api.core_v1 import Pod
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule, forbidden
from kybern.apiserver.request import Reader

CLASSES = "runtimeclasses.node.k8s.io"


class RuntimeClassAdmission(Rule):
    name: str = "RuntimeClass"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({"pods"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def admit(self, a: Attributes) -> None:
        found = self._class_of(a)
        if found is None or not isinstance(a.object, Pod):
            return
        spec = a.object.spec
        if found.overhead is not None:
            if spec.overhead and spec.overhead != found.overhead.podFixed:
                raise forbidden(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec.overhead = dict(found.overhead.podFixed)
        if found.scheduling is not None:
            for label, value in sorted(found.scheduling.nodeSelector.items()):
                if spec.nodeSelector.get(label, value) != value:
                    raise forbidden(
                        a,
                        f"conflict: runtimeClass.scheduling.nodeSelector[{label}] = {value}; "
                        f"pod.spec.nodeSelector[{label}] = {spec.nodeSelector[label]}",
                    )
                spec.nodeSelector[label] = value
            spec.tolerations += [t for t in found.scheduling.tolerations if t not in spec.tolerations]

    def validate(self, a: Attributes) -> None:
        pod = a.object
        if not isinstance(pod, Pod) or not pod.spec.overhead:
            return
        found = self._class_of(a)
        if found is None or found.overhead is None:
            raise forbidden(a, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        if pod.spec.overhead != found.overhead.podFixed:
            raise forbidden(a, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

    def _class_of(self, a: Attributes) -> node_v1.RuntimeClass | None:
        name = a.object.spec.runtimeClassName if isinstance(a.object, Pod) else None
        if not name:
            return None
        found: node_v1.RuntimeClass | None = self._reader.get(CLASSES, "", name)
        if found is None:
            raise forbidden(a, f'pod rejected: RuntimeClass "{name}" not found')
        return found
