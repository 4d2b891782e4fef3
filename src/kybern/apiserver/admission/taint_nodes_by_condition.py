"""TaintNodesByCondition: a new node is tainted not ready until the node controller has seen that it is.

Otherwise pods could land on it in between. Source: "Taint Nodes by Condition" in the Kubernetes documentation.
"""

from __future__ import annotations

from typing import ClassVar

from kybern.api.core_v1 import Node, Taint
from kybern.apiserver.admission import Attributes
from kybern.apiserver.admission.rule import Rule

NOT_READY = "node.kubernetes.io/not-ready"


class TaintNodesByCondition(Rule):
    name: str = "TaintNodesByCondition"
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE"})
    targets: ClassVar[frozenset[str] | None] = frozenset({"nodes"})

    def admit(self, a: Attributes) -> None:
        node = a.object
        if not isinstance(node, Node):
            return
        if not any(t.key == NOT_READY and t.effect == "NoSchedule" for t in node.spec.taints):
            node.spec.taints.append(Taint(key=NOT_READY, effect="NoSchedule"))
