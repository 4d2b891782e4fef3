"""Which nodes a pod may be on by its nodeSelector and required node affinity. Pure.

Asked node by node by the kubelet's admission and the DaemonSet controller; the scheduler answers the same over columns.
Source: "Assigning Pods to Nodes" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping

from kybern.api.core_v1 import Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec


def admits(spec: PodSpec, node: Node) -> bool:
    """Whether the node has the labels the pod wants and satisfies its required affinity."""
    if not spec.nodeSelector.items() <= node.metadata.labels.items():
        return False
    affinity = spec.affinity.nodeAffinity if spec.affinity is not None else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    return required is None or matches(required, node)


def matches(selector: NodeSelector, node: Node) -> bool:
    """Whether any term does. A term without requirements matches nothing."""
    return any(_matches_term(term, node) for term in selector.nodeSelectorTerms)


def _matches_term(term: NodeSelectorTerm, node: Node) -> bool:
    if not term.matchExpressions and not term.matchFields:
        return False
    fields = {"metadata.name": node.metadata.name}
    return all(_meets(r, node.metadata.labels) for r in term.matchExpressions) and all(
        _meets(r, fields) for r in term.matchFields
    )


def _meets(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                mine, bound = int(value or ""), int(requirement.values[0])
            except (ValueError, IndexError):
                return False
            return mine > bound if requirement.operator == "Gt" else mine < bound
        case _:
            return False
