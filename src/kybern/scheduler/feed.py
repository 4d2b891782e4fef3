"""Turn informers' changes into the cluster's columns and the queue's events. Between client/informer and run.

Keeps assumed pods: those on their way to a node count there until the API server shows them bound, or their binding
failed. Promises: a pod counts exactly once, whichever of assumption and watch comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kybern.client.informer import Informers
from kybern.client.shapes import Shape
from kybern.machinery import labels
from kybern.machinery.clock import Clock
from kybern.scheduler import objects, terms
from kybern.scheduler.cluster import Cluster
from kybern.scheduler.objects import PodView
from kybern.scheduler.plugins.contract import Change, Event
from kybern.scheduler.pod_info import PodInfo, is_finished
from kybern.scheduler.queue import PodQueue

T = TypeVar("T")
ASSUMED_FOR = 900.0  # seconds that a bound pod may take to be seen so; a stuck watch must not hold room for ever


class Feed:
    """Keeps a Cluster and a PodQueue current."""

    def __init__(self, cluster: Cluster, queue: PodQueue, clock: Clock, profiles: frozenset[str]) -> None:
        self.cluster = cluster
        self.queue = queue
        self._clock = clock
        self._profiles = profiles
        self._assumed: dict[str, float | None] = {}  # uid -> when its binding was done (None: under way)

    def attach(self, informers: Informers) -> None:
        """Ask for everything decisions need."""
        cluster = self.cluster
        informers.of(objects.NODES).on_change(self.node_changed)
        informers.of(objects.NAMESPACES).on_change(_table(cluster.namespaces, self._told(Event.NAMESPACE)))
        informers.of(objects.CLAIMS).on_change(_table(cluster.claims, self._told(Event.CLAIM)))
        informers.of(objects.VOLUMES).on_change(_table(cluster.volumes, self._told(Event.VOLUME)))
        informers.of(objects.CLASSES).on_change(_table(cluster.classes, self._told(Event.CLASS)))
        informers.of(objects.CSI_NODES).on_change(_table(cluster.csi_nodes, self._told(Event.CSI_NODE)))
        informers.of(objects.BUDGETS).on_change(self.budget_changed)
        for shape in (
            objects.SERVICES,
            objects.REPLICATION_CONTROLLERS,
            objects.REPLICA_SETS,
            objects.STATEFUL_SETS,
        ):
            informers.of(shape).on_change(self._owner_handler(shape))
        # Nodes and claims first, so that pods of the first list meet a cluster that is there.
        informers.of(objects.PODS).on_change(self.pod_changed)

    # pods
    def pod_changed(self, old: PodView | None, new: PodView | None) -> None:
        if new is None:
            assert old is not None
            self._pod_gone(PodInfo(old))
        elif is_finished(new):
            self._pod_gone(PodInfo(new))
        elif new.spec.nodeName:
            self._pod_bound(PodInfo(new), old)
        else:
            self._pod_waits(PodInfo(new))

    def _pod_bound(self, pod: PodInfo, old: PodView | None) -> None:
        snapshot = self.cluster.snapshot
        before = snapshot.pods.get(pod.uid)
        was_assumed = self._assumed.pop(pod.uid, "") != ""
        is_same = before is not None and snapshot.node_of(pod.uid) == pod.node_name
        snapshot.add_pod(pod, pod.node_name)
        self.queue.remove(pod.uid)
        self.cluster.nominate(pod, "")
        if before is None or was_assumed or not is_same:
            self.queue.tell(Change(Event.POD_PLACED, None, pod))
        elif (
            before.labels != pod.labels
            or before.requests != pod.requests
            or before.is_terminating != pod.is_terminating
        ):
            self.queue.tell(Change(Event.POD_CHANGED, before, pod))

    def _pod_waits(self, pod: PodInfo) -> None:
        if (pod.pod.spec.schedulerName or "default-scheduler") not in self._profiles:
            return
        if pod.uid in self._assumed:
            return  # its binding is under way
        if pod.is_terminating:
            self.queue.remove(pod.uid)
            self.cluster.nominate(pod, "")
            return
        if pod.nominated:
            self.cluster.nominate(pod, pod.nominated)
        self.queue.put(pod)

    def _pod_gone(self, pod: PodInfo) -> None:
        self.queue.remove(pod.uid)
        self._assumed.pop(pod.uid, None)
        had = self.cluster.snapshot.pods.get(pod.uid)
        was_nominated = bool(self.cluster.node_nominated_for(pod.uid))
        self.cluster.nominate(pod, "")
        if had is not None:
            self.cluster.snapshot.remove_pod(pod.uid)
        if had is not None or was_nominated:
            self.queue.tell(Change(Event.POD_GONE, had or pod, None))

    # assumed pods
    def assume(self, pod: PodInfo, node: str) -> None:
        """Count a pod on a node before its binding is written."""
        self._assumed[pod.uid] = None
        self.cluster.snapshot.add_pod(pod, node)

    def bound(self, pod: PodInfo) -> None:
        """Its binding was written: the watch will show it."""
        self.queue.remove(pod.uid)
        self.cluster.nominate(pod, "")
        if pod.uid in self._assumed:
            self._assumed[pod.uid] = self._clock.monotonic()

    def forget(self, pod: PodInfo) -> None:
        """Its binding failed: it is not there after all."""
        if pod.uid in self._assumed:
            del self._assumed[pod.uid]
            self.cluster.snapshot.remove_pod(pod.uid)
            self.queue.tell(Change(Event.POD_GONE, pod, None))

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    def expire(self) -> None:
        """Give up on bound pods that were never seen so."""
        now = self._clock.monotonic()
        for uid, since in list(self._assumed.items()):
            if since is not None and now - since > ASSUMED_FOR:
                del self._assumed[uid]
                self.cluster.snapshot.remove_pod(uid)

    # the rest
    def node_changed(self, old: objects.NodeView | None, new: objects.NodeView | None) -> None:
        if new is None:
            assert old is not None
            self.cluster.snapshot.remove_node(old.metadata.name)
            return
        if old is not None and (old.spec, old.status, old.metadata.labels) == (
            new.spec,
            new.status,
            new.metadata.labels,
        ):
            return  # a heartbeat
        self.cluster.snapshot.put_node(new)
        self.queue.tell(Change(Event.NODE_ADDED if old is None else Event.NODE_CHANGED, old, new))

    def budget_changed(self, old: objects.BudgetView | None, new: objects.BudgetView | None) -> None:
        one = new if new is not None else old
        assert one is not None
        budgets = self.cluster.budgets.setdefault(one.metadata.namespace, {})
        if new is not None:
            budgets[one.metadata.name] = (new, terms.compile_selector(new.spec.selector))
        else:
            budgets.pop(one.metadata.name, None)
            if not budgets:
                del self.cluster.budgets[one.metadata.namespace]

    def _owner_handler(self, shape: Shape[Any]) -> Callable[[Any, Any], None]:
        kind = shape.resource.kind

        def changed(old: Any, new: Any) -> None:
            one = new if new is not None else old
            owners = self.cluster.owners.setdefault(one.metadata.namespace, {})
            if old is not None and new is not None and old.spec.selector == new.spec.selector:
                return
            self.cluster.of_owners.pop(one.metadata.namespace, None)
            owners.pop((kind, one.metadata.name), None)
            if new is not None and new.spec.selector:
                owners[kind, one.metadata.name] = _selector_of(new.spec.selector)
            if not owners:
                del self.cluster.owners[one.metadata.namespace]

        return changed

    def _told(self, event: Event) -> Callable[[Any, Any], None]:
        def tell(old: Any, new: Any) -> None:
            if new is not None:
                self.queue.tell(Change(event, old, new))

        return tell


def _selector_of(selector: Any) -> labels.Selector:
    return labels.from_map(selector) if isinstance(selector, dict) else terms.compile_selector(selector)


def _table(table: dict[str, T], tell: Callable[[Any, Any], None]) -> Callable[[T | None, T | None], None]:
    """A handler that keeps a dictionary by key."""

    def changed(old: Any, new: Any) -> None:
        meta = (new if new is not None else old).metadata
        key = f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
        if new is None:
            table.pop(key, None)
        else:
            table[key] = new
        tell(old, new)

    return changed
