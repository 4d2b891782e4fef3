"""ReplicationControllers: ReplicaSets with a plain map as selector. All rules are in controllers/replicas."""

from __future__ import annotations

from kybern.api.core_v1 import ReplicationController, ReplicationControllerCondition
from kybern.controllers.replicas.reconcile import Flavor, ReplicaController
from kybern.controllers.runtime import Context
from kybern.machinery import labels
from kybern.machinery.labels import Selector


def _selector_of(owner: ReplicationController) -> Selector:
    return labels.from_map(owner.spec.selector) if owner.spec.selector else labels.NOTHING


FLAVOR = Flavor(
    kind=ReplicationController,
    component="replication-controller",
    selector_of=_selector_of,
    condition=ReplicationControllerCondition,
    counts_terminating=False,
)


def build(context: Context) -> ReplicaController[ReplicationController]:
    return ReplicaController(context, FLAVOR)
