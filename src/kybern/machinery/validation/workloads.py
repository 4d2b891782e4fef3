"""Deployments, ReplicaSets, ReplicationControllers, DaemonSets, StatefulSets, ControllerRevisions."""

from __future__ import annotations

from typing import Any

from kybern.api import codec
from kybern.api.apps_v1 import ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet
from kybern.api.core_v1 import PersistentVolumeClaimVolumeSource as ClaimSource
from kybern.api.core_v1 import PodTemplateSpec, ReplicationController, Volume
from kybern.machinery import labels, names
from kybern.machinery.status import forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import claims, replicas, rules, selectors
from kybern.machinery.validation.rules import IMMUTABLE, Errors, Rules
from kybern.pausing import pausing


def _check_deployment(deployment: Deployment, errors: Errors) -> None:
    spec = deployment.spec
    replicas.check_counts(spec, ("replicas",), "spec", errors)
    selector = replicas.check_selector(spec.selector, "spec.selector", "deployment", errors)
    if not _is_bad(selector, spec.selector, errors, "invalid label selector"):
        replicas.check_labels_match(selector, spec.template, "spec.template", errors)
        replicas.check_template(spec.template, "spec.template", "ReplicaSet", errors)
    _check_strategy(deployment, errors)
    replicas.check_counts(spec, ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"), "spec", errors)
    deadline = spec.progressDeadlineSeconds
    if deadline is not None and deadline <= (spec.minReadySeconds or 0):
        errors.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))


def _is_bad(selector: labels.Selector, given: Any, errors: Errors, message: str) -> bool:
    """A selector that is there and cannot be read: what depends on it is not judged."""
    if not selector.impossible or given is None:
        return False
    errors.append(invalid("spec.selector", selectors.rendered(given), message))
    return True


def _check_strategy(deployment: Deployment, errors: Errors) -> None:
    strategy, path = deployment.spec.strategy, "spec.strategy"
    rolling = strategy.rollingUpdate
    match strategy.type:
        case "Recreate":
            if rolling is not None:
                message = "may not be specified when strategy `type` is 'Recreate'"
                errors.append(forbidden_field(f"{path}.rollingUpdate", message))
        case "RollingUpdate":
            if rolling is None:
                errors.append(required(f"{path}.rollingUpdate", "this should be defaulted and never be nil"))
                return
            path = f"{path}.rollingUpdate"
            replicas.check_amount(rolling.maxUnavailable, f"{path}.maxUnavailable", errors)
            replicas.check_amount(rolling.maxSurge, f"{path}.maxSurge", errors)
            if replicas.is_zero(rolling.maxUnavailable) and replicas.is_zero(rolling.maxSurge):
                message = "may not be 0 when `maxSurge` is 0"
                errors.append(invalid(f"{path}.maxUnavailable", rolling.maxUnavailable, message))
            replicas.check_at_most_whole(rolling.maxUnavailable, f"{path}.maxUnavailable", errors)
        case _:
            errors.append(not_supported(path, codec.to_json(strategy), ("Recreate", "RollingUpdate")))


def _update_deployment(deployment: Deployment, old: Deployment, errors: Errors) -> None:
    _check_deployment(deployment, errors)
    rules.check_immutable(deployment.spec.selector, old.spec.selector, "spec.selector", errors)


_DEPLOYMENT_COUNTS = (
    "observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas",
    "terminatingReplicas", "collisionCount",
)  # fmt: skip
_READY = {"readyReplicas": "readyReplicas"}


def _check_deployment_status(deployment: Deployment, old: Deployment, errors: Errors) -> None:
    status = deployment.status
    replicas.check_counts(status, _DEPLOYMENT_COUNTS, "status", errors)
    bounds = {"updatedReplicas": "replicas", "readyReplicas": "replicas", "availableReplicas": "replicas"}
    replicas.check_at_most(status, bounds, "status", errors, {})
    replicas.check_at_most(status, {"availableReplicas": "readyReplicas"}, "status", errors, _READY)
    _check_collisions(status, old.status, errors)


def _check_collisions(status: Any, before: Any, errors: Errors) -> None:
    """The count of hashes that met: it makes names of revisions differ."""
    if before.collisionCount is not None and (status.collisionCount or 0) < before.collisionCount:
        errors.append(invalid("status.collisionCount", status.collisionCount or 0, "cannot be decremented"))


def _check_replica_set(replica_set: ReplicaSet, errors: Errors) -> None:
    spec = replica_set.spec
    replicas.check_counts(spec, ("replicas", "minReadySeconds"), "spec", errors)
    template = spec.template or PodTemplateSpec()
    # Upstream's words: it shares the check with Deployments.
    selector = replicas.check_selector(spec.selector, "spec.selector", "deployment", errors)
    if not _is_bad(selector, spec.selector, errors, "invalid label selector"):
        replicas.check_labels_match(selector, template, "spec.template", errors)
        replicas.check_template(template, "spec.template", "ReplicaSet", errors)


def _update_replica_set(replica_set: ReplicaSet, old: ReplicaSet, errors: Errors) -> None:
    _check_replica_set(replica_set, errors)
    rules.check_immutable(replica_set.spec.selector, old.spec.selector, "spec.selector", errors)


_REPLICA_COUNTS = (
    "observedGeneration", "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas",
    "terminatingReplicas",
)  # fmt: skip


def _check_replica_status(obj: Any, old: Any, errors: Errors) -> None:
    """Of ReplicaSets and ReplicationControllers."""
    counts = [c for c in _REPLICA_COUNTS if hasattr(obj.status, c)]
    replicas.check_counts(obj.status, counts, "status", errors)
    bounds = {"fullyLabeledReplicas": "replicas", "readyReplicas": "replicas", "availableReplicas": "replicas"}
    replicas.check_at_most(obj.status, bounds, "status", errors, {})
    replicas.check_at_most(obj.status, {"availableReplicas": "readyReplicas"}, "status", errors, _READY)


def _check_replication_controller(controller: ReplicationController, errors: Errors) -> None:
    spec = controller.spec
    replicas.check_counts(spec, ("minReadySeconds", "replicas"), "spec", errors)
    if not spec.selector:
        errors.append(required("spec.selector"))
    if spec.template is None:
        errors.append(required("spec.template"))
        return
    replicas.check_labels_match(labels.from_map(spec.selector), spec.template, "spec.template", errors)
    replicas.check_template(spec.template, "spec.template", "ReplicationController", errors)


def _check_daemon_set(daemon_set: DaemonSet, errors: Errors) -> None:
    spec = daemon_set.spec
    selector = replicas.check_selector(spec.selector, "spec.selector", "daemonset", errors)
    if spec.selector is None:
        errors.pop()  # upstream says only that nothing matches
    _check_matched(selector, spec.selector is None, spec.template, errors)
    replicas.check_template(spec.template, "spec.template", "DaemonSet", errors)
    replicas.check_counts(spec, ("minReadySeconds", "revisionHistoryLimit"), "spec", errors)
    strategy, path = spec.updateStrategy, "spec.updateStrategy"
    match strategy.type:
        case "OnDelete":
            pass
        case "RollingUpdate":
            rolling, path = strategy.rollingUpdate, f"{path}.rollingUpdate"
            if rolling is None:
                errors.append(required(path))
                return
            for field in ("maxUnavailable", "maxSurge"):
                replicas.check_amount(getattr(rolling, field), f"{path}.{field}", errors)
                replicas.check_at_most_whole(getattr(rolling, field), f"{path}.{field}", errors)
            has_unavailable = not replicas.is_zero(rolling.maxUnavailable)
            has_surge = not replicas.is_zero(rolling.maxSurge)
            if has_unavailable and has_surge:
                message = "may not be set when maxUnavailable is non-zero"
                errors.append(invalid(f"{path}.maxSurge", rolling.maxSurge, message))
            elif not has_unavailable and not has_surge:
                errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
        case _:
            errors.append(not_supported(path, codec.to_json(strategy), ("RollingUpdate", "OnDelete")))


def _check_matched(selector: labels.Selector, missing: bool, template: PodTemplateSpec, errors: Errors) -> None:
    if missing:
        found = dict(template.metadata.labels) or None
        errors.append(invalid("spec.template.metadata.labels", found, replicas.MISMATCH))
    elif not selector.impossible:
        replicas.check_labels_match(selector, template, "spec.template", errors)


def _update_daemon_set(daemon_set: DaemonSet, old: DaemonSet, errors: Errors) -> None:
    _check_daemon_set(daemon_set, errors)
    rules.check_immutable(daemon_set.spec.selector, old.spec.selector, "spec.selector", errors)


_DAEMON_COUNTS = (
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration",
    "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount",
)  # fmt: skip


def _check_daemon_status(daemon_set: DaemonSet, old: DaemonSet, errors: Errors) -> None:
    replicas.check_counts(daemon_set.status, _DAEMON_COUNTS, "status", errors)
    _check_collisions(daemon_set.status, old.status, errors)


def _check_stateful_set(stateful_set: StatefulSet, errors: Errors) -> None:
    spec = stateful_set.spec
    if spec.podManagementPolicy not in ("OrderedReady", "Parallel"):
        message = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid("spec.podManagementPolicy", spec.podManagementPolicy, message))
    _check_stateful_strategy(stateful_set, errors)
    retention, path = spec.persistentVolumeClaimRetentionPolicy, "spec.persistentVolumeClaimRetentionPolicy"
    if retention is not None:
        for field in ("whenDeleted", "whenScaled"):
            rules.check_choice(getattr(retention, field), f"{path}.{field}", ("Retain", "Delete"), errors)
    replicas.check_counts(spec, ("replicas", "minReadySeconds"), "spec", errors)
    if spec.ordinals is not None:
        replicas.check_counts(spec.ordinals, ("start",), "spec.ordinals", errors)
    rules.check_optional(spec.serviceName, "spec.serviceName", names.check_label, errors)
    selector = replicas.check_selector(spec.selector, "spec.selector", "statefulset", errors)
    for i, claim in enumerate(pausing(spec.volumeClaimTemplates)):
        claims.check_spec(claim.spec, f"spec.volumeClaimTemplates[{i}].spec", errors)
    if not _is_bad(selector, spec.selector, errors, ""):
        replicas.check_labels_match(selector, spec.template, "spec.template", errors)
        found: Errors = []
        replicas.check_template(_with_claims(stateful_set), "spec.template", "StatefulSet", found)
        # Its pods get these from it, whatever the template says.
        overwritten = ("spec.template.spec.hostname", "spec.template.spec.subdomain")
        errors.extend(e for e in found if e.field not in overwritten)


def _with_claims(stateful_set: StatefulSet) -> PodTemplateSpec:
    """The template as pods will have it: claims are volumes of their names, in place of those of the template."""
    spec = stateful_set.spec
    if not spec.volumeClaimTemplates:
        return spec.template
    template = codec.clone(spec.template)
    own = [
        Volume(name=c.metadata.name, persistentVolumeClaim=ClaimSource(claimName=c.metadata.name))
        for c in spec.volumeClaimTemplates
    ]
    taken = {v.name for v in own}
    template.spec.volumes = [*own, *(v for v in template.spec.volumes if v.name not in taken)]
    return template


def _check_stateful_strategy(stateful_set: StatefulSet, errors: Errors) -> None:
    strategy, path = stateful_set.spec.updateStrategy, "spec.updateStrategy"
    rolling = strategy.rollingUpdate
    match strategy.type:
        case None | "":
            errors.append(required(path))
        case "OnDelete":
            if rolling is not None:
                message = "only allowed for updateStrategy 'RollingUpdate'"
                errors.append(invalid(f"{path}.rollingUpdate", codec.to_json(rolling), message))
        case "RollingUpdate":
            if rolling is not None:
                replicas.check_counts(rolling, ("partition",), f"{path}.rollingUpdate", errors)
                replicas.check_amount(rolling.maxUnavailable, f"{path}.rollingUpdate.maxUnavailable", errors)
        case _:
            errors.append(invalid(path, codec.to_json(strategy), "must be 'RollingUpdate' or 'OnDelete'"))


_STATEFUL_MUTABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip


def _update_stateful_set(stateful_set: StatefulSet, old: StatefulSet, errors: Errors) -> None:
    _check_stateful_set(stateful_set, errors)
    changed = [
        field
        for field in old.spec.__struct_fields__
        if field not in _STATEFUL_MUTABLE and getattr(old.spec, field) != getattr(stateful_set.spec, field)
    ]
    if changed:
        shown = ", ".join(f"'{f}'" for f in _STATEFUL_MUTABLE[:-1])
        message = (
            f"updates to statefulset spec for fields other than {shown} and '{_STATEFUL_MUTABLE[-1]}' are forbidden"
        )
        errors.append(forbidden_field("spec", message))


_STATEFUL_COUNTS = (
    "observedGeneration", "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas",
    "collisionCount",
)  # fmt: skip


def _check_stateful_status(stateful_set: StatefulSet, old: StatefulSet, errors: Errors) -> None:
    replicas.check_counts(stateful_set.status, _STATEFUL_COUNTS, "status", errors)
    fields = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    replicas.check_at_most(stateful_set.status, dict.fromkeys(fields, "replicas"), "status", errors, {})
    replicas.check_at_most(stateful_set.status, {"availableReplicas": "readyReplicas"}, "status", errors, {})
    _check_collisions(stateful_set.status, old.status, errors)


def _check_revision(revision: ControllerRevision, errors: Errors) -> None:
    if revision.data is None:
        errors.append(required("data", "data is mandatory"))
    elif not isinstance(revision.data, dict):
        errors.append(required("data", "data must be a valid JSON object"))
    rules.check_not_negative(revision.revision, "revision", errors)


def _update_revision(revision: ControllerRevision, old: ControllerRevision, errors: Errors) -> None:
    rules.check_not_negative(revision.revision, "revision", errors)
    if revision.data != old.data:
        errors.append(invalid("data", revision.data, IMMUTABLE))


RULES: dict[type[Any], Rules] = {
    Deployment: Rules(_check_deployment, _update_deployment, _check_deployment_status),
    ReplicaSet: Rules(_check_replica_set, _update_replica_set, _check_replica_status),
    ReplicationController: Rules(_check_replication_controller, None, _check_replica_status),
    DaemonSet: Rules(_check_daemon_set, _update_daemon_set, _check_daemon_status),
    StatefulSet: Rules(_check_stateful_set, _update_stateful_set, _check_stateful_status),
    ControllerRevision: Rules(_check_revision, _update_revision),
}

__all__ = ["RULES", "selectors"]
