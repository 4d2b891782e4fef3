"""Which pods to take away. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kybern.api.core_v1 import Node, Pod
from kybern.controllers import pods, taints


@dataclass(frozen=True, slots=True)
class Doomed:
    """A pod to delete at once, and why. `fails`: it did not end, so it is marked as failed first."""

    pod: Pod
    message: str
    reason: str = "DeletionByPodGC"
    fails: bool = False


def plan_terminated(all_pods: Sequence[Pod], threshold: int) -> list[Doomed]:
    """The oldest of ended pods beyond the threshold (not positive: keep all)."""
    if threshold <= 0:
        return []
    ended = [p for p in all_pods if pods.is_finished(p) and p.metadata.deletionTimestamp is None]
    surplus = len(ended) - threshold
    if surplus <= 0:
        return []
    ended.sort(key=lambda p: (p.metadata.creationTimestamp or "", p.metadata.namespace, p.metadata.name))
    return [Doomed(pod, "PodGC: too many terminated pods") for pod in ended[:surplus]]


def plan_orphaned(all_pods: Sequence[Pod], gone: Collection[str]) -> list[Doomed]:
    """Pods of nodes that are certainly gone."""
    message = "PodGC: node no longer exists"
    return [
        Doomed(pod, message, fails=not pods.is_finished(pod)) for pod in all_pods if (pod.spec.nodeName or "") in gone
    ]


def plan_unscheduled(all_pods: Sequence[Pod]) -> list[Doomed]:
    """Pods that were told to stop before any node had them."""
    return [
        Doomed(pod, "PodGC: unscheduled pod is terminating", fails=not pods.is_finished(pod))
        for pod in all_pods
        if pod.metadata.deletionTimestamp is not None and not pod.spec.nodeName
    ]


def plan_out_of_service(all_pods: Sequence[Pod], nodes: Sequence[Node]) -> list[Doomed]:
    """Terminating pods of nodes that an operator declared dead."""
    dead = set()
    for node in nodes:
        ready = any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
        if not ready and any(t.key == taints.OUT_OF_SERVICE for t in node.spec.taints):
            dead.add(node.metadata.name)
    return [
        Doomed(pod, "PodGC: node is out of service", fails=not pods.is_finished(pod))
        for pod in all_pods
        if pod.metadata.deletionTimestamp is not None and pod.spec.nodeName in dead
    ]


def unknown_nodes(all_pods: Sequence[Pod], nodes: Sequence[Node]) -> set[str]:
    """Nodes that pods name and nobody knows."""
    known = {node.metadata.name for node in nodes}
    return {pod.spec.nodeName for pod in all_pods if pod.spec.nodeName and pod.spec.nodeName not in known}
