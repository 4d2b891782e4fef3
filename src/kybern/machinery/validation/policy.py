"""RBAC, disruption budgets, autoscalers, priority and runtime classes, leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kybern.api import autoscaling_v1, codec
from kybern.api.autoscaling_v2 import (
    ContainerResourceMetricSource,
    HorizontalPodAutoscaler,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
)
from kybern.api.coordination_v1 import Lease
from kybern.api.node_v1 import RuntimeClass
from kybern.api.policy_v1 import PodDisruptionBudget
from kybern.api.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    Subject,
)
from kybern.api.scheduling_v1 import PriorityClass
from kybern.machinery import names, quantity
from kybern.machinery.status import FieldError, duplicate, forbidden_field, invalid, not_supported, required
from kybern.machinery.validation import conditions, replicas, resources, rules, scheduling, selectors
from kybern.machinery.validation.rules import Errors, Rules
from kybern.pausing import pausing

# -- RBAC --------------------------------------------------------------------------------------------------------

_RBAC = "rbac.authorization.k8s.io"


def _check_rules(policy_rules: Sequence[PolicyRule], namespaced: bool, errors: Errors) -> None:
    for i, rule in enumerate(pausing(policy_rules)):
        path = f"rules[{i}]"
        if not rule.verbs:
            errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
        if rule.nonResourceURLs:
            where = f"{path}.nonResourceURLs"
            if namespaced:
                message = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid(where, rule.nonResourceURLs, message))
            if rule.apiGroups or rule.resources or rule.resourceNames:
                message = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(invalid(where, rule.nonResourceURLs, message))
            continue
        if not rule.apiGroups:
            errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.resources:
            errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))


def _check_role(role: Role, errors: Errors) -> None:
    _check_rules(role.rules, True, errors)


def _check_cluster_role(role: ClusterRole, errors: Errors) -> None:
    _check_rules(role.rules, False, errors)
    aggregation = role.aggregationRule
    if aggregation is None:
        return
    path = "aggregationRule.clusterRoleSelectors"
    if not aggregation.clusterRoleSelectors:
        errors.append(required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
    for i, selector in enumerate(pausing(aggregation.clusterRoleSelectors)):
        before = len(errors)
        selectors.check_label_selector(selector, f"{path}[{i}]", errors)
        if len(errors) > before:
            errors.append(invalid(f"{path}[{i}]", codec.to_json(selector), "invalid label selector."))


def _check_binding(binding: Any, kinds: Sequence[str], namespaced: bool, errors: Errors) -> None:
    reference = binding.roleRef
    if reference.apiGroup != _RBAC:
        errors.append(not_supported("roleRef.apiGroup", reference.apiGroup or "", (_RBAC,)))
    if reference.kind not in kinds:
        errors.append(not_supported("roleRef.kind", reference.kind, kinds))
    rules.check_name(reference.name, "roleRef.name", names.check_path_segment, errors)
    for i, subject in enumerate(pausing(binding.subjects)):
        _check_subject(subject, namespaced, f"subjects[{i}]", errors)


def _check_subject(subject: Subject, namespaced: bool, path: str, errors: Errors) -> None:
    if not subject.name:
        errors.append(required(f"{path}.name"))
    match subject.kind:
        case "ServiceAccount":
            if subject.name:
                rules.check_rule(subject.name, f"{path}.name", names.check_subdomain, errors)
            if subject.apiGroup:
                errors.append(not_supported(f"{path}.apiGroup", subject.apiGroup, ("",)))
            if not namespaced and not subject.namespace:
                errors.append(required(f"{path}.namespace"))
        case "User" | "Group":
            if subject.apiGroup != _RBAC:
                errors.append(not_supported(f"{path}.apiGroup", subject.apiGroup or "", (_RBAC,)))
        case _:
            errors.append(not_supported(f"{path}.kind", subject.kind, ("ServiceAccount", "User", "Group")))


def _check_role_binding(binding: RoleBinding, errors: Errors) -> None:
    _check_binding(binding, ("Role", "ClusterRole"), True, errors)


def _check_cluster_role_binding(binding: ClusterRoleBinding, errors: Errors) -> None:
    _check_binding(binding, ("ClusterRole",), False, errors)


def _keep_reference(check: Callable[[Any, Errors], None]) -> Callable[[Any, Any, Errors], None]:
    def update(binding: Any, old: Any, errors: Errors) -> None:
        check(binding, errors)
        if binding.roleRef != old.roleRef:
            errors.append(invalid("roleRef", codec.to_json(binding.roleRef), "cannot change roleRef"))

    return update


# -- disruption budgets ------------------------------------------------------------------------------------------


def _check_budget(budget: PodDisruptionBudget, errors: Errors) -> None:
    spec = budget.spec
    if spec.minAvailable is not None and spec.maxUnavailable is not None:
        message = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid("spec", codec.to_json(spec), message))
    for field in ("minAvailable", "maxUnavailable"):
        replicas.check_amount(getattr(spec, field), f"spec.{field}", errors)
        replicas.check_at_most_whole(getattr(spec, field), f"spec.{field}", errors)
    selectors.check_label_selector(spec.selector, "spec.selector", errors)
    policy = spec.unhealthyPodEvictionPolicy
    choices = ("AlwaysAllow", "IfHealthyBudget")
    if policy is not None and policy not in choices:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, choices))


def _status_of_budget(budget: PodDisruptionBudget, old: PodDisruptionBudget, errors: Errors) -> None:
    fields = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    replicas.check_counts(budget.status, fields, "status", errors)
    conditions.check(budget.status.conditions, "status.conditions", errors)


# -- autoscalers -------------------------------------------------------------------------------------------------


def _check_replicas(spec: Any, errors: Errors) -> None:
    if spec.minReplicas is not None and spec.minReplicas < 1:
        errors.append(invalid("spec.minReplicas", spec.minReplicas, "must be greater than or equal to 1"))
    if spec.maxReplicas < 0:
        errors.append(invalid("spec.maxReplicas", spec.maxReplicas, "must be greater than or equal to 1"))
    elif spec.maxReplicas == 0:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    if spec.minReplicas is not None and spec.maxReplicas < spec.minReplicas:
        message = "must be greater than or equal to `minReplicas`"
        errors.append(invalid("spec.maxReplicas", spec.maxReplicas, message))


def _check_reference(reference: Any, path: str, errors: Errors, *, group_required: bool) -> None:
    rules.check_name(reference.kind, f"{path}.kind", names.check_path_segment, errors)
    rules.check_name(reference.name, f"{path}.name", names.check_path_segment, errors)
    version = reference.apiVersion or ""
    if version.count("/") > 1:
        errors.append(invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    elif group_required and version.find("/") < 1 and reference.kind != "ReplicationController":
        errors.append(invalid(f"{path}.apiVersion", version, "apiVersion must specify API group"))


def _check_autoscaler(autoscaler: HorizontalPodAutoscaler, errors: Errors) -> None:
    spec = autoscaler.spec
    _check_replicas(spec, errors)
    _check_reference(spec.scaleTargetRef, "spec.scaleTargetRef", errors, group_required=True)
    if spec.minReplicas == 0 and not any(m.type in ("Object", "External") for m in spec.metrics):
        message = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden_field("spec.metrics", message))
    for i, metric in enumerate(pausing(spec.metrics)):
        _check_metric(metric, f"spec.metrics[{i}]", errors)
    if spec.behavior is not None:
        for field in ("scaleUp", "scaleDown"):
            scaling = getattr(spec.behavior, field)
            if scaling is not None:
                _check_scaling(scaling, f"spec.behavior.{field}", errors)


# In the order in which they are looked for: only the first one found is checked.
_METRICS = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _check_metric(metric: MetricSpec, path: str, errors: Errors) -> None:
    if not metric.type:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    expected = _METRICS.get(metric.type)
    if expected is None:
        errors.append(not_supported(f"{path}.type", metric.type, sorted(_METRICS)))
    present = [field for field in _METRICS.values() if getattr(metric, field) is not None]
    if present:
        _SOURCE_CHECKS[present[0]](getattr(metric, present[0]), f"{path}.{present[0]}", errors)
    if expected is not None and expected not in present:
        errors.append(required(f"{path}.{expected}", "must populate information for the given metric source"))
    if len(present) > 1:
        for other in present:
            if other != expected:
                errors.append(forbidden_field(f"{path}.{other}", "must populate the given metric source only"))


def _check_target(target: MetricTarget, path: str, errors: Errors) -> None:
    if not target.type:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if target.type not in ("Utilization", "Value", "AverageValue"):
        message = "must be either Utilization, Value, or AverageValue"
        errors.append(invalid(f"{path}.type", target.type, message))
    for field in ("value", "averageValue"):
        amount = getattr(target, field)
        if amount is not None and quantity.nano(amount) <= 0:
            errors.append(invalid(f"{path}.{field}", amount, "must be positive"))
    if target.averageUtilization is not None and target.averageUtilization < 1:
        errors.append(invalid(f"{path}.averageUtilization", target.averageUtilization, "must be greater than 0"))


def _check_resource(source: Any, path: str, errors: Errors) -> None:
    if not source.name:
        errors.append(required(f"{path}.name", "must specify a resource name"))
    if isinstance(source, ContainerResourceMetricSource):
        if source.name:
            resources.check_container_name(source.name, f"{path}.name", errors)
        rules.check_name(source.container, f"{path}.container", names.check_label, errors, "must specify a container")
    target, where = source.target, f"{path}.target"
    _check_target(target, where, errors)
    if target.averageUtilization is None and target.averageValue is None:
        message = "must set either a target raw value or a target utilization"
        errors.append(required(f"{where}.averageUtilization", message))
    elif target.averageUtilization is not None and target.averageValue is not None:
        message = "may not set both a target raw value and a target utilization"
        errors.append(forbidden_field(f"{where}.averageValue", message))


def _check_identifier(identifier: MetricIdentifier, path: str, errors: Errors) -> None:
    if not identifier.name:
        errors.append(required(f"{path}.name", "must specify a metric name"))
    else:
        rules.check_rule(identifier.name, f"{path}.name", names.check_path_segment, errors)


def _check_pods_metric(source: Any, path: str, errors: Errors) -> None:
    _check_identifier(source.metric, f"{path}.metric", errors)
    _check_target(source.target, f"{path}.target", errors)
    if source.target.averageValue is None:
        errors.append(required(f"{path}.target.averageValue", "must specify a positive target averageValue"))


def _check_object_metric(source: Any, path: str, errors: Errors) -> None:
    _check_reference(source.describedObject, f"{path}.describedObject", errors, group_required=False)
    _check_identifier(source.metric, f"{path}.metric", errors)
    _check_target(source.target, f"{path}.target", errors)
    if source.target.value is None and source.target.averageValue is None:
        errors.append(required(f"{path}.target.averageValue", "must set either a target value or averageValue"))


def _check_external_metric(source: Any, path: str, errors: Errors) -> None:
    _check_identifier(source.metric, f"{path}.metric", errors)
    _check_target(source.target, f"{path}.target", errors)
    if source.target.value is None and source.target.averageValue is None:
        message = "must set either a target value for metric or a per-pod target"
        errors.append(required(f"{path}.target.averageValue", message))
    elif source.target.value is not None and source.target.averageValue is not None:
        message = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden_field(f"{path}.target.value", message))


_SOURCE_CHECKS: dict[str, Callable[[Any, str, Errors], None]] = {
    "resource": _check_resource,
    "containerResource": _check_resource,
    "pods": _check_pods_metric,
    "object": _check_object_metric,
    "external": _check_external_metric,
}


def _check_scaling(scaling: HPAScalingRules, path: str, errors: Errors) -> None:
    window = scaling.stabilizationWindowSeconds
    if window is not None:
        where = f"{path}.stabilizationWindowSeconds"
        if window < 0:
            errors.append(invalid(where, window, "must be greater than or equal to zero"))
        elif window > 3600:
            errors.append(invalid(where, window, "must be less than or equal to 3600"))
    if scaling.selectPolicy is not None and scaling.selectPolicy not in ("Disabled", "Max", "Min"):
        errors.append(not_supported(f"{path}.selectPolicy", scaling.selectPolicy, ("Disabled", "Max", "Min")))
    if not scaling.policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(pausing(scaling.policies)):
        where = f"{path}.policies[{i}]"
        if policy.type not in ("Percent", "Pods"):
            errors.append(not_supported(f"{where}.type", policy.type, ("Percent", "Pods")))
        if policy.value <= 0:
            errors.append(invalid(f"{where}.value", policy.value, "must be greater than zero"))
        if policy.periodSeconds <= 0:
            errors.append(invalid(f"{where}.periodSeconds", policy.periodSeconds, "must be greater than zero"))
        elif policy.periodSeconds > 1800:
            message = "must be less than or equal to 1800"
            errors.append(invalid(f"{where}.periodSeconds", policy.periodSeconds, message))
    if scaling.tolerance is not None:
        resources.check_not_negative(scaling.tolerance, f"{path}.tolerance", errors)


def _check_old_autoscaler(autoscaler: autoscaling_v1.HorizontalPodAutoscaler, errors: Errors) -> None:
    _check_replicas(autoscaler.spec, errors)
    _check_reference(autoscaler.spec.scaleTargetRef, "spec.scaleTargetRef", errors, group_required=True)
    target = autoscaler.spec.targetCPUUtilizationPercentage
    if target is not None and target < 1:
        path = "spec.metrics[0].resource.target.averageUtilization"
        errors.append(invalid(path, target, "must be greater than 0"))


def _status_of_autoscaler(autoscaler: Any, old: Any, errors: Errors) -> None:
    replicas.check_counts(autoscaler.status, ("currentReplicas", "desiredReplicas"), "status", errors)


# -- classes, leases ---------------------------------------------------------------------------------------------

_HIGHEST_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def _check_priority_class(priority: PriorityClass, errors: Errors) -> None:
    name = priority.metadata.name
    if name.startswith("system-"):
        known = SYSTEM_PRIORITIES.get(name)
        if known is None or known != priority.value:
            why = f"{name} is not a known system priority class"
            if known is not None:
                why = f"value of {name} PriorityClass must be {known}"
            message = f"priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            errors.append(forbidden_field("metadata.name", message))
    elif (priority.value or 0) > _HIGHEST_PRIORITY:
        message = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
        errors.append(forbidden_field("value", message))
    choices = ("PreemptLowerPriority", "Never")
    if not priority.preemptionPolicy:
        errors.append(required("preemptionPolicy"))
    elif priority.preemptionPolicy not in choices:
        errors.append(not_supported("preemptionPolicy", priority.preemptionPolicy, choices))


def _update_priority_class(priority: PriorityClass, old: PriorityClass, errors: Errors) -> None:
    if (priority.value or 0) != (old.value or 0):
        errors.append(forbidden_field("value", "may not be changed in an update."))
    rules.check_immutable(priority.preemptionPolicy, old.preemptionPolicy, "preemptionPolicy", errors)


def _check_runtime_class(runtime: RuntimeClass, errors: Errors) -> None:
    rules.check_name(runtime.handler, "handler", names.check_label, errors)
    if runtime.overhead is not None:
        resources.check_overhead(runtime.overhead.podFixed, "overhead", errors)
    if runtime.scheduling is not None:
        rules.check_labels(runtime.scheduling.nodeSelector, "scheduling.nodeSelector", errors)
        tolerations = runtime.scheduling.tolerations
        scheduling.check_tolerations(tolerations, "scheduling.tolerations", errors)
        for i, toleration in enumerate(pausing(tolerations)):
            if toleration in tolerations[:i]:
                errors.append(duplicate(f"scheduling.tolerations[{i}]", codec.to_json(toleration)))


def _update_runtime_class(runtime: RuntimeClass, old: RuntimeClass, errors: Errors) -> None:
    _check_runtime_class(runtime, errors)
    rules.check_immutable(runtime.handler, old.handler, "handler", errors)


def _check_lease(lease: Lease, errors: Errors) -> None:
    seconds = lease.spec.leaseDurationSeconds
    if seconds is not None and seconds <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    rules.check_not_negative(lease.spec.leaseTransitions, "spec.leaseTransitions", errors)


RULES: dict[type[Any], Rules] = {
    Role: Rules(_check_role),
    ClusterRole: Rules(_check_cluster_role),
    RoleBinding: Rules(_check_role_binding, _keep_reference(_check_role_binding)),
    ClusterRoleBinding: Rules(_check_cluster_role_binding, _keep_reference(_check_cluster_role_binding)),
    PodDisruptionBudget: Rules(_check_budget, None, _status_of_budget),
    HorizontalPodAutoscaler: Rules(_check_autoscaler, None, _status_of_autoscaler),
    autoscaling_v1.HorizontalPodAutoscaler: Rules(_check_old_autoscaler, None, _status_of_autoscaler),
    PriorityClass: Rules(_check_priority_class, _update_priority_class),
    RuntimeClass: Rules(_check_runtime_class, _update_runtime_class),
    Lease: Rules(_check_lease),
}

__all__ = ["RULES", "SYSTEM_PRIORITIES", "FieldError"]
