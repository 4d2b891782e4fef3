"""What a node's conditions and taints should be, given when it was last heard of. Pure.

Fed by reconcile. A silent node's conditions become Unknown; conditions become NoSchedule taints at once; being not
ready or unreachable becomes a NoExecute taint too, at the pace that the state of its zone allows.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from kybern.api import scalars
from kybern.api.core_v1 import Node, NodeCondition, Taint
from kybern.controllers import taints
from kybern.controllers.settings import Settings

WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
# (condition, status) -> key of its NoSchedule taint
_SCHEDULING = {
    ("Ready", "False"): taints.NOT_READY,
    ("Ready", "Unknown"): taints.UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_SCHEDULING_KEYS = frozenset((*_SCHEDULING.values(), taints.UNSCHEDULABLE))
_EXECUTION = {"False": taints.NOT_READY, "Unknown": taints.UNREACHABLE}
SOON = 0.1  # seconds after a grace period is over
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Heard:
    """When a node last gave a sign of life, by our clock, and what that sign was."""

    sign: tuple[str, str]  # renewTime of its lease, heartbeat of its Ready condition
    at: float


def condition_of(node: Node, type_: str) -> NodeCondition | None:
    for condition in node.status.conditions:
        if condition.type == type_:
            return condition
    return None


def is_ready(node: Node) -> bool:
    condition = condition_of(node, "Ready")
    return condition is not None and condition.status == "True"


def plan_conditions(
    node: Node, silent_for: float, settings: Settings, now: datetime.datetime
) -> list[NodeCondition] | None:
    """The conditions of a node that has been silent for so many seconds; None if they may stay."""
    ready = condition_of(node, "Ready")
    grace = settings.node_monitor_grace_period if ready is not None else settings.node_startup_grace_period
    if silent_for <= grace:
        return None
    stamp = scalars.render_time(now)
    conditions = []
    changed = False
    for type_ in WATCHED:
        old = condition_of(node, type_)
        if old is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
            made = NodeCondition(
                type=type_,
                status="Unknown",
                reason=reason,
                message=message,
                lastHeartbeatTime=node.metadata.creationTimestamp,
                lastTransitionTime=stamp,
            )
            conditions.append(made)
            changed = True
        elif old.status != "Unknown":
            made = NodeCondition(
                type=type_,
                status="Unknown",
                reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.",
                lastHeartbeatTime=old.lastHeartbeatTime,
                lastTransitionTime=stamp,
            )
            conditions.append(made)
            changed = True
        else:
            conditions.append(old)
    if not changed:
        return None
    return conditions + [c for c in node.status.conditions if c.type not in WATCHED]


def next_look(node: Node, silent_for: float, settings: Settings) -> float:
    """Seconds until a node may have to be judged anew: one that is fine, when its grace would be over."""
    if not is_ready(node) or needs_eviction(node):
        return settings.node_monitor_period
    return max(settings.node_monitor_grace_period - silent_for, 0.0) + SOON


def plan_taints(node: Node, *, evict: bool, now: datetime.datetime) -> list[Taint] | None:
    """The taints of a node; None if they are right. `evict`: a NoExecute taint may be added now."""
    wanted = []
    if node.spec.unschedulable:
        wanted.append(Taint(key=taints.UNSCHEDULABLE, effect="NoSchedule"))
    for condition in node.status.conditions:
        key = _SCHEDULING.get((condition.type, condition.status))
        if key is not None:
            wanted.append(Taint(key=key, effect="NoSchedule"))
    ready = condition_of(node, "Ready")
    execution = _EXECUTION.get(ready.status) if ready is not None else None
    result = []
    for taint in node.spec.taints:
        ours = (taint.effect == "NoSchedule" and taint.key in _SCHEDULING_KEYS) or (
            taint.effect == "NoExecute" and taint.key in _EXECUTION.values()
        )
        if not ours:
            result.append(taint)
        elif taint.effect == "NoExecute":
            if taint.key == execution:
                result.append(taint)
        elif any(taints.same(taint, w) for w in wanted):
            result.append(taint)
    stamp = scalars.render_time(now)
    for want in wanted:
        if not any(taints.same(want, have) for have in result):
            want.timeAdded = stamp
            result.append(want)
    if execution is not None and evict and not any(t.key == execution and t.effect == "NoExecute" for t in result):
        result.append(Taint(key=execution, effect="NoExecute", timeAdded=stamp))
    return None if result == node.spec.taints else result


def needs_eviction(node: Node) -> bool:
    """Not ready, and not yet tainted so that its pods go."""
    ready = condition_of(node, "Ready")
    key = _EXECUTION.get(ready.status) if ready is not None else None
    return key is not None and not any(t.key == key and t.effect == "NoExecute" for t in node.spec.taints)


class ZoneState(Enum):
    """How bad it is in a zone."""

    NORMAL = "normal"
    PARTIAL = "partial disruption"
    FULL = "full disruption"


def zone_of(node: Node) -> str:
    labels = node.metadata.labels
    return f"{labels.get(REGION, '')}:{labels.get(ZONE, '')}"


@dataclass(frozen=True, slots=True)
class Zones:
    """How each zone is, and how many nodes it has; by zone_of."""

    states: Mapping[str, ZoneState] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


def count_zones(nodes: Iterable[Node], settings: Settings) -> Zones:
    counts: dict[str, tuple[int, int]] = {}
    for node in nodes:
        zone = zone_of(node)
        ready, other = counts.get(zone, (0, 0))
        counts[zone] = (ready + 1, other) if is_ready(node) else (ready, other + 1)
    states = {}
    for zone, (ready, other) in counts.items():
        if ready == 0 and other > 0:
            states[zone] = ZoneState.FULL
        elif other > 2 and other / (ready + other) >= settings.unhealthy_zone_threshold:
            states[zone] = ZoneState.PARTIAL
        else:
            states[zone] = ZoneState.NORMAL
    return Zones(states, {zone: ready + other for zone, (ready, other) in counts.items()})


def eviction_rate(zone: str, zones: Zones, settings: Settings) -> float:
    """Nodes a second that may be tainted NoExecute in a zone; 0 for none.

    With every zone down it is more likely that we are cut off than that all nodes died: nothing is evicted.
    """
    if all(state is ZoneState.FULL for state in zones.states.values()):
        return 0.0
    if zones.states.get(zone) is ZoneState.PARTIAL:
        is_large = zones.sizes.get(zone, 0) > settings.large_cluster_size_threshold
        return settings.secondary_node_eviction_rate if is_large else 0.0
    return settings.node_eviction_rate
