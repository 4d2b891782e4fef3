"""The order of the rules and their weights: upstream's default profile. Read by cycle and preempt."""

from __future__ import annotations

from dataclasses import dataclass

from kybern.scheduler.plugins import (
    image_locality,
    node_affinity,
    node_name,
    node_ports,
    node_resources,
    node_unschedulable,
    pod_affinity,
    taint_toleration,
    topology_spread,
    volume_binding,
    volume_rules,
)
from kybern.scheduler.plugins.contract import Filter, Score

DEFAULT_SCHEDULER = "default-scheduler"


@dataclass(frozen=True, slots=True)
class Profile:
    """A scheduler as pods name it in spec.schedulerName."""

    name: str = DEFAULT_SCHEDULER
    filters: tuple[Filter, ...] = ()
    scores: tuple[tuple[Score, int], ...] = ()


FILTERS: tuple[Filter, ...] = (
    node_unschedulable.node_unschedulable,
    node_name.node_name,
    taint_toleration.taint_toleration,
    node_affinity.node_affinity,
    node_ports.node_ports,
    node_resources.node_resources_fit,
    volume_rules.volume_restrictions,
    volume_rules.node_volume_limits,
    volume_binding.volume_binding,
    volume_rules.volume_zone,
    topology_spread.topology_spread,
    pod_affinity.inter_pod_affinity,
)
# Source: kube-scheduler's documented default weights.
SCORES: tuple[tuple[Score, int], ...] = (
    (taint_toleration.fewer_taints, 3),
    (node_affinity.preferred_nodes, 2),
    (node_resources.least_allocated, 1),
    (node_resources.balanced_allocation, 1),
    (topology_spread.even_spread, 2),
    (pod_affinity.preferred_neighbours, 2),
    (image_locality.image_locality, 1),
)


def default_profile(name: str = DEFAULT_SCHEDULER) -> Profile:
    return Profile(name, FILTERS, SCORES)
