"""The cluster as columns: one array a fact, one row a node (or pod), kept current by each change.

Fed by cache (informers' changes and assumed pods), read by plugins, lent to preempt, which takes pods out and puts
them back to see what would be. Rows are dense and move: a row number holds until the next change, a name for ever.
Promises: `requested`, `pod_count` and the tables of pods always agree with the pods that are in.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kybern.api.core_v1 import Taint
from kybern.scheduler import requests
from kybern.scheduler.columns import Bools, Codes, LabelTable
from kybern.scheduler.objects import NodeView
from kybern.scheduler.pod_info import HostPort, PodInfo
from kybern.scheduler.terms import PodTerm, pod_terms

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
FIRST_RESOURCES = (requests.CPU, requests.MEMORY, "ephemeral-storage")
MEMO_LIMIT = 512
LOG_LIMIT = 1 << 16  # changes of loads that are kept


@dataclass(frozen=True, slots=True)
class TaintKey:
    key: str
    value: str
    effect: str


@dataclass(slots=True)
class _ByLoad:
    """A column computed from nodes and their loads."""

    node_version: int
    seen: int  # changes of loads until then are in it
    values: NDArray[Any]


class Snapshot:
    """All nodes known, and the pods on them (also those on nodes that are not known yet)."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: dict[str, int] = {}
        self.nodes: list[NodeView] = []
        self.node_labels = LabelTable()
        self.resources: dict[str, int] = {name: i for i, name in enumerate(FIRST_RESOURCES)}
        self.taints: dict[TaintKey, int] = {}  # -> bit
        self._capacity = 16
        self._allocatable: Ints = np.zeros((16, 4), dtype=np.int64)
        self._requested: Ints = np.zeros((16, 4), dtype=np.int64)
        self._nonzero: Ints = np.zeros((16, 2), dtype=np.int64)
        self._pod_limit: Ints = np.zeros(16, dtype=np.int64)
        self._pod_count: Ints = np.zeros(16, dtype=np.int64)
        self._unschedulable: Bools = np.zeros(16, dtype=np.bool_)
        self._taint_bits: Words = np.zeros((16, 1), dtype=np.uint64)
        self.images: dict[str, dict[str, int]] = {}  # image name -> node name -> bytes
        # pods
        self.pods: dict[str, PodInfo] = {}  # by uid
        self.pod_rows: dict[str, int] = {}
        self.pod_list: list[PodInfo] = []
        self.pod_labels = LabelTable()
        self._pod_capacity = 64
        self._pod_node: Codes = np.full(64, -1, dtype=np.int32)
        self._pod_space: Codes = np.zeros(64, dtype=np.int32)
        self._pod_priority: Ints = np.zeros(64, dtype=np.int64)
        self._pod_leaving: Bools = np.zeros(64, dtype=np.bool_)
        self._spaces: dict[str, int] = {}
        self.pods_of: dict[str, dict[str, PodInfo]] = {}  # node name -> uid -> pod
        self._homes: dict[str, str] = {}  # uid -> node name
        self.ports: dict[tuple[str, int], collections.Counter[tuple[str, str]]] = {}  # -> (ip, node) -> pods
        # Affinity terms of the pods that are in: what they are, and how many pods of each node have them.
        self.terms: dict[PodTerm, collections.Counter[str]] = {}
        self.claims: dict[str, collections.Counter[str]] = {}  # namespace/claim -> node -> pods
        self.node_version = 0
        self.pod_version = 0
        self._memo: collections.OrderedDict[Any, tuple[int, Any]] = collections.OrderedDict()
        self._load_log: list[int] = []  # rows whose load has changed, in order
        self._load_begin = 0  # how many changes are no longer in the log
        self._by_load: collections.OrderedDict[Any, _ByLoad] = collections.OrderedDict()

    # what plugins read: rows 0..len-1
    def __len__(self) -> int:
        return len(self.names)

    @property
    def allocatable(self) -> Ints:
        """[node, resource]"""
        return self._allocatable[: len(self.names)]

    @property
    def requested(self) -> Ints:
        """[node, resource]"""
        return self._requested[: len(self.names)]

    @property
    def nonzero(self) -> Ints:
        """[node, cpu and memory], as scores see them."""
        return self._nonzero[: len(self.names)]

    @property
    def pod_limit(self) -> Ints:
        return self._pod_limit[: len(self.names)]

    @property
    def pod_count(self) -> Ints:
        return self._pod_count[: len(self.names)]

    @property
    def unschedulable(self) -> Bools:
        return self._unschedulable[: len(self.names)]

    @property
    def taint_bits(self) -> Words:
        """[node, word]"""
        return self._taint_bits[: len(self.names)]

    @property
    def pod_node(self) -> Codes:
        """Each pod's node row; -1: on no known node."""
        return self._pod_node[: len(self.pod_list)]

    @property
    def pod_priority(self) -> Ints:
        return self._pod_priority[: len(self.pod_list)]

    @property
    def pod_leaving(self) -> Bools:
        return self._pod_leaving[: len(self.pod_list)]

    def in_namespace(self, namespace: str) -> Bools:
        """Which pods are in a namespace."""
        return np.equal(self._pod_space[: len(self.pod_list)], self._spaces.get(namespace, -1))

    def in_namespaces(self, namespaces: Iterable[str]) -> Bools:
        wanted = [self._spaces[n] for n in namespaces if n in self._spaces]
        return np.isin(self._pod_space[: len(self.pod_list)], wanted)

    def per_node(self, pods: Bools) -> Ints:
        """How many of the chosen pods each node has."""
        return self.sum_per_node(pods, None)

    def sum_per_node(self, pods: Bools, weights: Ints | None) -> Ints:
        chosen = pods & (self.pod_node >= 0)
        values = None if weights is None else weights[chosen]
        return np.bincount(self.pod_node[chosen], values, minlength=len(self)).astype(np.int64)

    def counts_of(self, counter: collections.Counter[str]) -> Ints:
        """A count by node name as a column."""
        column = np.zeros(len(self), dtype=np.int64)
        for name, count in counter.items():
            row = self.rows.get(name)
            if row is not None:
                column[row] = count
        return column

    def mask_of(self, names: Iterable[str]) -> Bools:
        """Which nodes have one of these names."""
        mask = np.zeros(len(self), dtype=np.bool_)
        for name in names:
            row = self.rows.get(name)
            if row is not None:
                mask[row] = True
        return mask

    def memo(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, remembered as long as no node changes. For results that depend on nodes alone."""
        found = self._memo.get(key)
        if found is not None and found[0] == self.node_version:
            self._memo.move_to_end(key)
            return found[1]
        value = compute()
        self._memo[key] = (self.node_version, value)
        self._memo.move_to_end(key)
        if len(self._memo) > MEMO_LIMIT:
            self._memo.popitem(last=False)
        return value

    def by_load(self, key: Any, compute: Callable[[NDArray[np.intp]], NDArray[Any]]) -> NDArray[Any]:
        """`compute(rows)` for all rows, for results that depend on each node and its load alone. Remembered: only rows
        whose load has changed since the last time are computed, which is what keeps a decision among thousands of
        nodes quick. Valid until the next change."""
        now = self._load_begin + len(self._load_log)
        found = self._by_load.get(key)
        if found is None or found.node_version != self.node_version or found.seen < self._load_begin:
            found = _ByLoad(self.node_version, now, compute(np.arange(len(self))))
            self._by_load[key] = found
            if len(self._by_load) > MEMO_LIMIT:
                self._by_load.popitem(last=False)
        elif found.seen < now:
            rows = np.array(list({*self._load_log[found.seen - self._load_begin :]}), dtype=np.intp)
            found.values[rows] = compute(rows)
            found.seen = now
        self._by_load.move_to_end(key)
        return found.values

    # nodes
    def put_node(self, node: NodeView) -> None:
        name = node.metadata.name
        row = self.rows.get(name)
        if row is None:
            row = self._append_node(name, node)
        elif self.nodes[row].status.images != node.status.images:
            self._forget_images(row)
        self.nodes[row] = node
        self.node_labels.put(row, node.metadata.labels)
        amounts = requests.of_list(node.status.allocatable or node.status.capacity)
        self._pod_limit[row] = amounts.pop("pods", 0)
        self._allocatable[row] = 0
        for resource, value in amounts.items():
            column = self._resource(resource)  # first: a new resource may replace the array
            self._allocatable[row, column] = value
        self._unschedulable[row] = bool(node.spec.unschedulable)
        self._taint_bits[row] = 0
        for taint in node.spec.taints:
            bit = self._taint(taint)
            self._taint_bits[row, bit // 64] |= np.uint64(1 << (bit % 64))
        for image in node.status.images:
            for image_name in image.names:
                self.images.setdefault(image_name, {})[name] = image.sizeBytes or 0
        self.node_version += 1

    def remove_node(self, name: str) -> None:
        row = self.rows.pop(name, None)
        if row is None:
            return
        self._forget_images(row)
        last = len(self.names) - 1
        for pod in self.pods_of.get(name, {}).values():
            self._pod_node[self.pod_rows[pod.uid]] = -1
        moved = self.names[last]
        self.names[row], self.nodes[row] = moved, self.nodes[last]
        self.names.pop()
        self.nodes.pop()
        self.node_labels.remove(row)
        for column in self._node_columns():
            column[row] = column[last]
            column[last] = 0
        if row != last:
            self.rows[moved] = row
            for pod in self.pods_of.get(moved, {}).values():
                self._pod_node[self.pod_rows[pod.uid]] = row
        self.node_version += 1

    def _append_node(self, name: str, node: NodeView) -> int:
        row = len(self.names)
        if row >= self._capacity:
            self._grow_nodes()
        self.names.append(name)
        self.nodes.append(node)
        self.rows[name] = row
        self.node_labels.append(node.metadata.labels)
        for column in self._node_columns():
            column[row] = 0
        for pod in self.pods_of.get(name, {}).values():
            self._pod_node[self.pod_rows[pod.uid]] = row
            self._count_on(row, pod, 1)
        return row

    def _node_columns(self) -> tuple[NDArray[Any], ...]:
        return (
            self._allocatable,
            self._requested,
            self._nonzero,
            self._pod_limit,
            self._pod_count,
            self._unschedulable,
            self._taint_bits,
        )

    def _grow_nodes(self) -> None:
        self._capacity *= 2
        self._allocatable = _taller(self._allocatable, self._capacity)
        self._requested = _taller(self._requested, self._capacity)
        self._nonzero = _taller(self._nonzero, self._capacity)
        self._pod_limit = _taller(self._pod_limit, self._capacity)
        self._pod_count = _taller(self._pod_count, self._capacity)
        self._unschedulable = _taller(self._unschedulable, self._capacity)
        self._taint_bits = _taller(self._taint_bits, self._capacity)

    def _resource(self, name: str) -> int:
        """The column of a resource that some node has."""
        column = self.resources.get(name)
        if column is not None:
            return column
        column = self.resources[name] = len(self.resources)
        if column >= self._allocatable.shape[1]:
            self._allocatable = _wider(self._allocatable)
            self._requested = _wider(self._requested)
        for pod, row in zip(self.pod_list, self.pod_node, strict=True):
            if row >= 0:
                self._requested[row, column] += pod.requests.get(name, 0)
        return column

    def _taint(self, taint: Taint) -> int:
        key = TaintKey(taint.key, taint.value or "", taint.effect)
        if key not in self.taints and len(self.taints) > 4 * sum(len(n.spec.taints) for n in self.nodes) + 1024:
            self._intern_taints_anew()
        bit = self.taints.setdefault(key, len(self.taints))
        if bit // 64 >= self._taint_bits.shape[1]:
            self._taint_bits = _wider(self._taint_bits)
        return bit

    def _intern_taints_anew(self) -> None:
        """Most taints that ever were are gone: number those that are left."""
        self.taints.clear()
        self._taint_bits = np.zeros((self._capacity, 1), dtype=np.uint64)
        for row, node in enumerate(self.nodes):
            for taint in node.spec.taints:
                bit = self._taint(taint)
                self._taint_bits[row, bit // 64] |= np.uint64(1 << (bit % 64))

    def _forget_images(self, row: int) -> None:
        node = self.nodes[row]
        for image in node.status.images:
            for name in image.names:
                holders = self.images.get(name)
                if holders is not None:
                    holders.pop(node.metadata.name, None)
                    if not holders:
                        del self.images[name]

    # pods
    def add_pod(self, pod: PodInfo, node_name: str) -> None:
        """Put a pod on a node, which need not be known. A pod that is in already is replaced."""
        if pod.uid in self.pods:
            self.remove_pod(pod.uid)
        row = self.pod_labels.append(pod.labels)
        if row >= self._pod_capacity:
            self._pod_capacity *= 2
            self._pod_node = _taller(self._pod_node, self._pod_capacity)
            self._pod_space = _taller(self._pod_space, self._pod_capacity)
            self._pod_priority = _taller(self._pod_priority, self._pod_capacity)
            self._pod_leaving = _taller(self._pod_leaving, self._pod_capacity)
        self.pods[pod.uid] = pod
        self.pod_rows[pod.uid] = row
        self.pod_list.append(pod)
        node_row = self.rows.get(node_name, -1)
        self._pod_node[row] = node_row
        self._pod_space[row] = self._space(pod.namespace)
        self._pod_priority[row] = pod.priority
        self._pod_leaving[row] = pod.is_terminating
        self.pods_of.setdefault(node_name, {})[pod.uid] = pod
        self._homes[pod.uid] = node_name
        self._note(pod, node_name)
        if node_row >= 0:
            self._count_on(node_row, pod, 1)
        self.pod_version += 1

    def _space(self, namespace: str) -> int:
        if len(self._spaces) > 4 * len(self.pod_list) + 1024:  # mostly namespaces long gone: number them afresh
            self._spaces = {name: i for i, name in enumerate(dict.fromkeys(p.namespace for p in self.pod_list))}
            for row, pod in enumerate(self.pod_list):
                self._pod_space[row] = self._spaces[pod.namespace]
        return self._spaces.setdefault(namespace, len(self._spaces))

    def remove_pod(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        if pod is None:
            return
        node_name = self._homes.pop(uid)
        here = self.pods_of[node_name]
        del here[uid]
        if not here:
            del self.pods_of[node_name]
        self._forget(pod, node_name)
        row, last = self.pod_rows.pop(uid), len(self.pod_list) - 1
        node_row = int(self._pod_node[row])
        if node_row >= 0:
            self._count_on(node_row, pod, -1)
        self.pod_labels.remove(row)
        moved = self.pod_list.pop()
        if row != last:
            self.pod_list[row] = moved
            self.pod_rows[moved.uid] = row
            for column in (self._pod_node, self._pod_space, self._pod_priority, self._pod_leaving):
                column[row] = column[last]
        self.pod_version += 1

    def node_of(self, uid: str) -> str:
        """The name of the node a pod is on, "" if it is not in."""
        return self._homes.get(uid, "")

    @contextlib.contextmanager
    def supposing(
        self, *, without: Iterable[PodInfo] = (), placed: Iterable[tuple[PodInfo, str]] = ()
    ) -> Iterator[None]:
        """As if some pods were gone and others were on a node."""
        gone = [(pod, self._homes[pod.uid]) for pod in without if pod.uid in self.pods]
        added = [(pod, node) for pod, node in placed if pod.uid not in self.pods]
        for pod, _ in gone:
            self.remove_pod(pod.uid)
        for pod, node in added:
            self.add_pod(pod, node)
        try:
            yield
        finally:
            for pod, _ in added:
                self.remove_pod(pod.uid)
            for pod, node in gone:
                self.add_pod(pod, node)

    def _count_on(self, row: int, pod: PodInfo, sign: int) -> None:
        for name, value in pod.requests.items():
            column = self.resources.get(name)
            if column is not None:  # else no node has any: counted once one does
                self._requested[row, column] += sign * value
        cpu, memory = pod.nonzero
        self._nonzero[row, 0] += sign * cpu
        self._nonzero[row, 1] += sign * memory
        self._pod_count[row] += sign
        self._load_log.append(row)
        if len(self._load_log) > LOG_LIMIT:
            self._load_begin += len(self._load_log)
            self._load_log.clear()

    def _note(self, pod: PodInfo, node_name: str) -> None:
        """What is looked up by something else than rows."""
        for port in pod.host_ports:
            self.ports.setdefault((port.protocol, port.port), collections.Counter())[(port.ip, node_name)] += 1
        for term in pod_terms(pod).all():
            self.terms.setdefault(term, collections.Counter())[node_name] += 1
        for claim, _ in pod.claims:
            self.claims.setdefault(f"{pod.namespace}/{claim}", collections.Counter())[node_name] += 1

    def _forget(self, pod: PodInfo, node_name: str) -> None:
        for port in pod.host_ports:
            _take(self.ports, (port.protocol, port.port), (port.ip, node_name))
        for term in pod_terms(pod).all():
            _take(self.terms, term, node_name)
        for claim, _ in pod.claims:
            _take(self.claims, f"{pod.namespace}/{claim}", node_name)

    def nodes_with_port(self, port: HostPort) -> set[str]:
        """Nodes where a host port is taken."""
        users = self.ports.get((port.protocol, port.port), ())
        return {node for ip, node in users if port.conflicts(HostPort(ip, port.protocol, port.port))}


def _take(counters: dict[Any, collections.Counter[Any]], key: Any, who: Any) -> None:
    counter = counters[key]
    counter[who] -= 1
    if counter[who] <= 0:
        del counter[who]
    if not counter:
        del counters[key]


def _taller(column: NDArray[Any], rows: int) -> NDArray[Any]:
    grown = np.zeros((rows, *column.shape[1:]), dtype=column.dtype)
    grown[: len(column)] = column
    return grown


def _wider(column: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([column, np.zeros_like(column)], axis=1)
