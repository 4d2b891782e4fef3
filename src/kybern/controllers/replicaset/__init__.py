"""ReplicaSets: so many pods of one template. All rules are in controllers/replicas."""

from __future__ import annotations

from kybern.api.apps_v1 import ReplicaSet, ReplicaSetCondition
from kybern.controllers.replicas.reconcile import Flavor, ReplicaController
from kybern.controllers.runtime import Context
from kybern.machinery import labels

FLAVOR = Flavor(
    kind=ReplicaSet,
    component="replicaset-controller",
    selector_of=lambda owner: labels.from_label_selector(owner.spec.selector),
    condition=ReplicaSetCondition,
    counts_terminating=True,
)


def build(context: Context) -> ReplicaController[ReplicaSet]:
    return ReplicaController(context, FLAVOR)
