"""PodTopologyLabels: a pod that is bound gets its node's topology labels, for the downward API.

Source: KEP-4742; "Well-Known Labels: topology.kubernetes.io".
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api.core_v1 import Binding, Node, Pod
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule
from kybern.apiserver.request import Reader

_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels(Rule):
    """Also for pods that are made with a node already."""

    name: str = "PodTopologyLabels"
    targets: ClassVar[frozenset[str] | None] = frozenset({"pods", "pods/binding"})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def admit(self, a: Attributes) -> None:
        obj = a.object
        if isinstance(obj, Binding):
            name = obj.target.name if obj.target.kind in (None, "", "Node") else ""
        elif isinstance(obj, Pod) and a.operation == "CREATE":  # one that is updated was bound long ago
            name = obj.spec.nodeName or ""
        else:
            return
        if not name:
            return
        node: Node | None = self._reader.get("nodes", "", name)
        for label in _LABELS:
            value = node.metadata.labels.get(label) if node is not None else None
            if value is not None:
                obj.metadata.labels[label] = value
