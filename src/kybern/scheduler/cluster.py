"""All a decision may look at: the snapshot of nodes and pods, and the other objects that rules speak of.

Filled by feed (and by tests, directly); read by plugins and preempt. Data only: no clock, no loop, no dice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kybern.machinery import labels
from kybern.scheduler.objects import BudgetView, ClaimView, ClassView, CsiNodeView, NamespaceView, PersistentVolumeView
from kybern.scheduler.pod_info import PodInfo
from kybern.scheduler.snapshot import Snapshot

_NONE: Mapping[str, str] = {}


@dataclass(slots=True)
class Cluster:
    """One moment of a cluster. Keys are `namespace/name`, or names."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    namespaces: dict[str, NamespaceView] = field(default_factory=dict)
    claims: dict[str, ClaimView] = field(default_factory=dict)
    volumes: dict[str, PersistentVolumeView] = field(default_factory=dict)
    classes: dict[str, ClassView] = field(default_factory=dict)
    csi_nodes: dict[str, CsiNodeView] = field(default_factory=dict)
    budgets: dict[str, dict[str, tuple[BudgetView, labels.Selector]]] = field(default_factory=dict)  # by namespace
    # What spreads the pods of services and sets by default: namespace -> (kind, name) -> selector.
    owners: dict[str, dict[tuple[str, str], labels.Selector]] = field(default_factory=dict)
    # What plugins found out about pods with the same labels from `owners`: namespace -> labels -> whatever it was.
    # Feed drops a namespace's when its owners change.
    of_owners: dict[str, dict[frozenset[tuple[str, str]], Any]] = field(default_factory=dict)
    # Pods that preemption made room for, by node name: others of lower priority must leave it to them.
    nominated: dict[str, dict[str, PodInfo]] = field(default_factory=dict)
    # Volumes that pods on their way to a node will take: volume -> claim key.
    promised_volumes: dict[str, str] = field(default_factory=dict)

    def labels_of_namespace(self, name: str) -> Mapping[str, str]:
        found = self.namespaces.get(name)
        return found.metadata.labels if found is not None else _NONE

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Keep room for a pod on a node ("": nowhere any more)."""
        for name, pods in list(self.nominated.items()):
            if pods.pop(pod.uid, None) is not None and not pods:
                del self.nominated[name]
        if node:
            self.nominated.setdefault(node, {})[pod.uid] = pod

    def node_nominated_for(self, uid: str) -> str:
        return next((node for node, pods in self.nominated.items() if uid in pods), "")
