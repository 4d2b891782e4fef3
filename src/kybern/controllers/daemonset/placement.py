"""On which nodes a DaemonSet's pods belong. Pure.

The scheduler places them, but the controller must know beforehand: a node gets a pod (with an affinity to exactly that
node) if selector, required affinity and NoSchedule and NoExecute taints allow it; a pod stays until a NoExecute taint
says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from kybern.api import codec
from kybern.api.apps_v1 import DaemonSet
from kybern.api.core_v1 import (
    Affinity,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    Toleration,
)
from kybern.controllers import taints
from kybern.machinery import node_selectors

_TOLERATED = (
    (taints.NOT_READY, "NoExecute"),
    (taints.UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (taints.UNSCHEDULABLE, "NoSchedule"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a pod should be started on a node, and whether one that is there may stay."""

    run: bool
    stay: bool


def tolerations_of(spec: PodSpec) -> list[Toleration]:
    """Those of the template, and what every daemon has to bear."""
    result = list(spec.tolerations)
    wanted = [*_TOLERATED]
    if spec.hostNetwork:
        wanted.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    for key, effect in wanted:
        if not any(t.key == key and t.effect == effect and t.operator == "Exists" for t in result):
            result.append(Toleration(key=key, effect=effect, operator="Exists"))
    return result


def judge(daemonset: DaemonSet, node: Node) -> Verdict:
    spec = daemonset.spec.template.spec
    if spec.nodeName and spec.nodeName != node.metadata.name:
        return Verdict(False, False)
    if not node_selectors.admits(spec, node):
        return Verdict(False, False)
    tolerations = tolerations_of(spec)
    if taints.untolerated(tolerations, node.spec.taints, ("NoExecute",)) is not None:
        return Verdict(False, False)
    fits = taints.untolerated(tolerations, node.spec.taints, ("NoSchedule",)) is None
    return Verdict(fits, True)


def node_of(pod: Pod) -> str:
    """Where a pod is, or will be: daemon pods are bound to their node by affinity before they are scheduled."""
    if pod.spec.nodeName:
        return pod.spec.nodeName
    affinity = pod.spec.affinity.nodeAffinity if pod.spec.affinity is not None else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    for term in required.nodeSelectorTerms if required is not None else ():
        for field in term.matchFields:
            if field.key == "metadata.name" and field.operator == "In" and len(field.values) == 1:
                return field.values[0]
    return ""


def pin(pod: Pod, node: str) -> None:
    """Bind a new pod to a node, through the scheduler."""
    affinity = codec.clone(pod.spec.affinity) if pod.spec.affinity is not None else Affinity()
    affinity.nodeAffinity = affinity.nodeAffinity or NodeAffinity()
    # Whatever else the template requires was judged already: the node is what counts now.
    term = NodeSelectorTerm(matchFields=[NodeSelectorRequirement(key="metadata.name", operator="In", values=[node])])
    affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution = NodeSelector(nodeSelectorTerms=[term])
    pod.spec.affinity = affinity
    pod.spec.tolerations = tolerations_of(pod.spec)
