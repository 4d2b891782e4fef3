"""Defaults of networking, discovery, RBAC, autoscaling, flow control, aggregation and CRDs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybern.api import autoscaling_v1
from kybern.api.apiextensions_v1 import CustomResourceConversion, CustomResourceDefinition
from kybern.api.apiregistration_v1 import APIService
from kybern.api.autoscaling_v2 import (
    HorizontalPodAutoscaler,
    HPAScalingPolicy,
    HPAScalingRules,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from kybern.api.discovery_v1 import EndpointSlice
from kybern.api.flowcontrol_v1 import (
    ExemptPriorityLevelConfiguration,
    FlowSchema,
    PriorityLevelConfiguration,
    QueuingConfiguration,
)
from kybern.api.meta_v1 import LabelSelector
from kybern.api.networking_v1 import IngressClass, NetworkPolicy
from kybern.api.rbac_v1 import ClusterRoleBinding, RoleBinding

_RBAC = "rbac.authorization.k8s.io"


def _fill_network_policy(policy: NetworkPolicy) -> None:
    spec = policy.spec
    if spec.podSelector is None:
        spec.podSelector = LabelSelector()
    ports = [port for rule in spec.ingress for port in rule.ports]
    ports += [port for rule in spec.egress for port in rule.ports]
    for port in ports:
        if port.protocol is None:
            port.protocol = "TCP"
    if not spec.policyTypes:
        spec.policyTypes = ["Ingress", "Egress"] if spec.egress else ["Ingress"]


def _fill_ingress_class(ingress_class: IngressClass) -> None:
    parameters = ingress_class.spec.parameters
    if parameters is not None and parameters.scope is None:
        parameters.scope = "Cluster"


def _fill_endpoint_slice(endpoint_slice: EndpointSlice) -> None:
    for port in endpoint_slice.ports:
        port.name = port.name or ""
        if port.protocol is None:
            port.protocol = "TCP"


def _fill_binding(binding: RoleBinding | ClusterRoleBinding) -> None:
    binding.roleRef.apiGroup = binding.roleRef.apiGroup or _RBAC
    for subject in binding.subjects:
        if subject.kind in ("User", "Group"):
            subject.apiGroup = subject.apiGroup or _RBAC


def _fill_autoscaler(autoscaler: HorizontalPodAutoscaler) -> None:
    spec = autoscaler.spec
    if spec.minReplicas is None:
        spec.minReplicas = 1
    if not spec.metrics:
        target = MetricTarget(type="Utilization", averageUtilization=80)
        spec.metrics = [MetricSpec(type="Resource", resource=ResourceMetricSource(name="cpu", target=target))]
    if spec.behavior is not None:
        spec.behavior.scaleUp = _fill_scaling(
            spec.behavior.scaleUp,
            0,
            (
                HPAScalingPolicy(type="Pods", value=4, periodSeconds=15),
                HPAScalingPolicy(type="Percent", value=100, periodSeconds=15),
            ),
        )
        spec.behavior.scaleDown = _fill_scaling(
            spec.behavior.scaleDown, None, (HPAScalingPolicy(type="Percent", value=100, periodSeconds=15),)
        )


def _fill_scaling(
    rules: HPAScalingRules | None, window: int | None, policies: tuple[HPAScalingPolicy, ...]
) -> HPAScalingRules:
    rules = rules or HPAScalingRules()
    rules.selectPolicy = "Max" if rules.selectPolicy is None else rules.selectPolicy
    rules.policies = rules.policies or list(policies)
    if rules.stabilizationWindowSeconds is None:
        rules.stabilizationWindowSeconds = window
    return rules


def _fill_old_autoscaler(autoscaler: autoscaling_v1.HorizontalPodAutoscaler) -> None:
    spec = autoscaler.spec
    if spec.minReplicas is None:
        spec.minReplicas = 1
    if spec.targetCPUUtilizationPercentage is None and not any(
        key.startswith("autoscaling.alpha.kubernetes.io/metrics") for key in autoscaler.metadata.annotations
    ):
        spec.targetCPUUtilizationPercentage = 80


def _fill_api_service(service: APIService) -> None:
    if service.spec.service is not None and service.spec.service.port is None:
        service.spec.service.port = 443


def _fill_definition(definition: CustomResourceDefinition) -> None:
    spec = definition.spec
    names = spec.names
    names.singular = names.singular or names.kind.lower()
    if not names.listKind and names.kind:
        names.listKind = names.kind + "List"
    if spec.conversion is None:
        spec.conversion = CustomResourceConversion(strategy="None")
    webhook = spec.conversion.webhook
    if webhook is not None and webhook.clientConfig is not None:
        service = webhook.clientConfig.service
        if service is not None and service.port is None:
            service.port = 443


def _fill_flow_schema(schema: FlowSchema) -> None:
    if not schema.spec.matchingPrecedence:
        schema.spec.matchingPrecedence = 1000


def _fill_priority_level(level: PriorityLevelConfiguration) -> None:
    spec = level.spec
    if spec.type == "Limited" and spec.limited is not None:
        limited = spec.limited
        if limited.nominalConcurrencyShares is None:
            limited.nominalConcurrencyShares = 30
        if limited.lendablePercent is None:
            limited.lendablePercent = 0
        if limited.limitResponse is not None and limited.limitResponse.queuing is not None:
            _fill_queuing(limited.limitResponse.queuing)
    elif spec.type == "Exempt":
        if spec.exempt is None:
            spec.exempt = ExemptPriorityLevelConfiguration()
        if spec.exempt.nominalConcurrencyShares is None:
            spec.exempt.nominalConcurrencyShares = 0
        if spec.exempt.lendablePercent is None:
            spec.exempt.lendablePercent = 0


def _fill_queuing(queuing: QueuingConfiguration) -> None:
    queuing.queues = queuing.queues or 64
    queuing.handSize = queuing.handSize or 8
    queuing.queueLengthLimit = queuing.queueLengthLimit or 50


DEFAULTS: dict[type[Any], Callable[[Any], None]] = {
    NetworkPolicy: _fill_network_policy,
    IngressClass: _fill_ingress_class,
    EndpointSlice: _fill_endpoint_slice,
    RoleBinding: _fill_binding,
    ClusterRoleBinding: _fill_binding,
    HorizontalPodAutoscaler: _fill_autoscaler,
    autoscaling_v1.HorizontalPodAutoscaler: _fill_old_autoscaler,
    APIService: _fill_api_service,
    CustomResourceDefinition: _fill_definition,
    FlowSchema: _fill_flow_schema,
    PriorityLevelConfiguration: _fill_priority_level,
}
